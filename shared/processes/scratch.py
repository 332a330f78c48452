"""Ray's directories, which outlive a process that is killed: the next one removes them."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX, _LOCK = "ws-ray-", "owner.lock"
# Unix socket paths end at 107 bytes and Ray adds about 60 of its own.
_MAX_TEMP_DIR_BYTES = 45
# From making a directory to locking it, with room for a busy machine.
_UNLOCKED_S = 60.0


@contextmanager
def ray_directory() -> Iterator[Path]:
    """One for this process's Ray, gone at the end; those of dead processes are removed first."""
    sweep_ray_directories()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))
    try:
        with (directory / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when the process dies
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep_ray_directories() -> None:
    """Removes those whose process is dead, as it was killed."""
    for directory in _parent().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's, or locked by its living process, or gone meanwhile
            if _is_left(directory):
                shutil.rmtree(directory, ignore_errors=True)


def _is_left(directory: Path) -> bool:
    """Raises OSError where its process lives."""
    lock = directory / _LOCK
    if not lock.exists():
        # nobody's yet, or of a version that did not lock, and so perhaps of a living process
        return time.time() - directory.stat().st_mtime > _UNLOCKED_S and not any(directory.iterdir())
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def _parent() -> Path:
    default = tempfile.gettempdir()
    return Path(default if len(default.encode()) <= _MAX_TEMP_DIR_BYTES else "/tmp")  # noqa: S108 - mkdtemp
