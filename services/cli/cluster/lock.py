"""One cluster a data directory: two stores on the same append-only file would destroy it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from services.cli.failures import CommandError

_NAME = "up.lock"


def make_data_dir(data_dir: Path) -> None:
    """Makes it where it is not there, and has git pass it over, as caches do: it may lie in a checkout."""
    if not data_dir.is_dir():
        data_dir.mkdir(parents=True, exist_ok=True)
        (data_dir / ".gitignore").write_text("# Written by `warmstart up`.\n*\n")


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Held while the cluster runs; the kernel lets it go whatever way the holder ends.

    Raises CommandError where another process holds it.
    """
    make_data_dir(data_dir)
    path = data_dir / _NAME
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CommandError(
                f"{data_dir} is in use by another `warmstart up` (process {holder}); stop it with "
                f"`warmstart down --data-dir {data_dir}`, or take another directory with --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_holder(data_dir: Path) -> psutil.Process | None:
    """The process that holds the data directory, also while its cluster is still starting; None where there
    is none.

    A process id that is left over from a dead holder names nobody: the one it now belongs to has not opened
    the lock.
    """
    path = (data_dir / _NAME).resolve()
    try:
        process = psutil.Process(int(path.read_text()))
        return process if any(file.path == str(path) for file in process.open_files()) else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None
