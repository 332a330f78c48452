"""The rejects file: one JSON object a line, with the row's number, the reason and the row itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TextIO

from services.cli.failures import CommandError
from shared.datasets import Reject

# Leaves room for the domain and the mark in the 255 bytes of a file name, also at four bytes a character.
_MAX_NAME_CHARS = 40


def rejects_name(files: Sequence[Path]) -> str:
    """Name of the rejects of these files, endings included, with a mark of where they are: files of the
    same name elsewhere have other rejects, and the same files imported again replace their own."""
    where = "\n".join(str(file.resolve()) for file in files)
    mark = sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{'-'.join(file.name for file in files)[:_MAX_NAME_CHARS]}-{mark}"


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
                # A row that is not UTF-8 is written with its bytes escaped.
                self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
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
