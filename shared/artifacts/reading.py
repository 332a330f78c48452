"""Small files of a registry, read before anything says that they are good."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shared.errors import ArtifactError


def read_small(file: Path, most_bytes: int) -> bytes:
    """The whole of a regular file; of a pipe nothing is waited for, and what is too large is not read.

    Raises ArtifactError naming file, rule and value; OSError where it cannot be opened or read.
    """
    with open(file, "rb", opener=_without_waiting) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{file}: must be a regular file, got {stat.filemode(status.st_mode)}")
        found = stream.read(most_bytes + 1)
    if len(found) > most_bytes:
        raise ArtifactError(f"{file}: must be at most {most_bytes:,} bytes, got {status.st_size:,}")
    return found


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe waits for who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)
