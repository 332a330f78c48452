"""One cluster a data directory: two stores on the same append-only file would destroy it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from services.cli.failures import CommandError
from shared.processes.lock import FileLock, Holder

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
    lock = FileLock(data_dir / _NAME)
    holder = lock.take()
    if holder:
        raise CommandError(
            f"{data_dir} is in use by another `warmstart up` ({holder}); stop it there with "
            f"`warmstart down --data-dir {data_dir}`, or take another directory with --data-dir"
        )
    try:
        yield
    finally:
        lock.let_go()


def lock_holder(data_dir: Path) -> psutil.Process | None:
    """The process of this machine that holds the data directory, also while its cluster is still starting;
    None where there is none.

    A process id that is left over from a dead holder names nobody: the one it now belongs to has not opened
    the lock.
    """
    path = (data_dir / _NAME).resolve()
    try:
        holder = Holder.read(path.read_text())
        if holder is None or not holder.is_here:
            return None
        process = psutil.Process(holder.pid)
        return process if any(file.path == str(path) for file in process.open_files()) else None
    except (FileNotFoundError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def holder_elsewhere(data_dir: Path) -> str:
    """The process of another machine (or container) that holds the directory, in words; "" for none."""
    path = data_dir / _NAME
    holder = Holder.read(path.read_text()) if path.is_file() else None
    if holder is None or holder.is_here:
        return ""
    lock = FileLock(path)
    try:
        return lock.take()
    finally:
        lock.let_go()
