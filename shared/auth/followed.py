"""A file whose content is read again when it changes, however it is put in place.

Asked by `stat` every quarter of a second: it sees what is written in place, what is renamed over it, and what
appears behind a link that is swapped, as Kubernetes does; and it works on every file system.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from shared.telemetry.logs import logger

T = TypeVar("T")
# A key that is revoked is to be refused within a second.
INTERVAL_S = 0.25
MAX_BYTES = 16 << 20
_LOG = logger("auth.files")
_Mark = tuple[int, int, int, int]


class FollowedFile(Generic[T]):
    """`value`: what `parse` made of the newest content that was good. parse: raises ValueError, whose text
    must show no secret."""

    def __init__(self, path: Path, parse: Callable[[bytes], T], what: str) -> None:
        """Reads it for the first time. what: "keys", for logs. Raises OSError, ValueError."""
        self.path, self.what = path, what
        self.problem = ""
        self._parse = parse
        self._mark: _Mark | None = self._stat()
        self.value = self._read()

    async def look(self) -> bool:
        """Takes up what has changed; whether the value did. A broken or missing file is logged once, and the
        value before it stays. The file system may be slow: it is not asked on the event loop."""
        fresh = await asyncio.to_thread(self._changed)
        if fresh is None:
            return False
        self.value = fresh
        return True

    def _changed(self) -> T | None:
        try:
            mark = self._stat()
            if mark == self._mark:
                return None
            # Noted before it is read: what is written meanwhile is read once more.
            self._mark = mark
            fresh = self._read()
        except OSError as error:
            self._mark = None
            self._note(error.strerror or str(error))
            return None
        except ValueError as error:
            self._note(str(error))
            return None
        self.problem = ""
        _LOG.info("file taken up", what=self.what, path=str(self.path))
        return fresh

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            _LOG.error("file not taken up", what=self.what, path=str(self.path), problem=problem)

    def _stat(self) -> _Mark:
        found = self.path.stat()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> T:
        with self.path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"must be at most {MAX_BYTES} bytes")
        return self._parse(content)
