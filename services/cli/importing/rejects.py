"""The rejects file: one JSON object a line, with the row's number, the reason and the row itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TextIO

from services.cli.failures import CommandError
from shared.datasets import Reject

# Leaves room for the domain and the mark in the 255 bytes of a file name, also at four bytes a character.
_MAX_NAME_CHARS = 40
_DAY_S = 24 * 3600


def rejects_name(files: Sequence[Path]) -> str:
    """Name of the rejects of these files, endings included, with a mark of where they are: files of the
    same name elsewhere have other rejects, and the same files imported again replace their own."""
    where = "\n".join(str(file.resolve()) for file in files)
    mark = sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{'-'.join(file.name for file in files)[:_MAX_NAME_CHARS]}-{mark}"


def naming(directory: Path, user_id: str) -> Sequence[Path]:
    """Rejects files with rows that hold the id as a whole word."""
    word = re.compile(rf"(?<!\w){re.escape(user_id)}(?!\w)")
    files = sorted(directory.glob("*.jsonl")) if directory.is_dir() else []
    return [file for file in files if word.search(file.read_text(encoding="utf-8", errors="replace"))]


def drop_old(directory: Path, days: int, now_s: float) -> int:
    """Removes the rejects files that were written more than so many days ago (0 = none); how many."""
    if not days or not directory.is_dir():
        return 0
    old = [f for f in directory.glob("*.jsonl") if f.stat().st_mtime < now_s - days * _DAY_S]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)


class RejectsFile:
    """Opened with the first reject, so that a clean import leaves no file; an older one is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._file: TextIO | None = None

    def __enter__(self) -> RejectsFile:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, kind: str, reject: Reject) -> None:
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Rows are people's data: for their owner alone. One that is not UTF-8 has its bytes escaped.
                file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                self._file = os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise CommandError(
                    f"row {reject.number} of {reject.file} is bad ({reject.reason}) and the rejects file "
                    f"{self.path} cannot be written: {error.strerror}; say another with --rejects FILE"
                ) from error
        line = {
            "kind": kind,
            "file": reject.file,
            "row": reject.number,
            "reason": reject.reason,
            "raw": reject.raw,
        }
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.written += 1
