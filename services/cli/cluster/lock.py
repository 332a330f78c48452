"""One cluster a data directory: two stores on the same append-only file would destroy it.

up.lock        held by the command that has the directory
programs.lock  held, shared, by every program that it started on a leash: they outlive it for some seconds
               where it was killed, and whoever wants the directory waits for them
"""

from __future__ import annotations

import fcntl
import os
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from services.cli import output
from services.cli.directories import make_ignored
from services.cli.failures import CommandError
from shared.processes import leash
from shared.processes.lock import FileLock, Holder

_NAME, _PROGRAMS = "up.lock", "programs.lock"
# Stopped in order they take some five seconds, a training that writes a checkpoint longer.
_LEFT_S = 30.0
_POLL_S = 0.1


def make_data_dir(data_dir: Path) -> None:
    """Where it is not there."""
    make_ignored(data_dir, "warmstart up")


@contextmanager
def data_dir_lock(data_dir: Path, left_s: float = _LEFT_S) -> Iterator[Mapping[str, str]]:
    """Held while the cluster runs; the kernel lets it go whatever way the holder ends.

    Yields variables for the environment of programs that work in the directory: started on a leash, they
    keep others out for as long as they live. Waits for those of an earlier holder, at most `left_s`.

    Raises CommandError where another process holds it, or programs of an earlier holder do not end.
    """
    make_data_dir(data_dir)
    lock = FileLock(data_dir / _NAME)
    holder = lock.take()
    if holder:
        raise CommandError(
            f"{data_dir} is in use by another `warmstart up` ({holder}); stop it there with "
            f"`warmstart down --data-dir {shlex.quote(str(data_dir))}`, or take another directory with "
            "--data-dir"
        )
    try:
        mark = uuid.uuid4().hex
        with (data_dir / _PROGRAMS).open("a+") as programs:
            _wait_until_free(programs, left_s)
            programs.truncate(0)
            programs.write(mark)
        yield {leash.CLUSTER: mark, leash.PROGRAMS: str((data_dir / _PROGRAMS).resolve())}
    finally:
        lock.let_go()


def wait_for_programs(data_dir: Path, left_s: float = _LEFT_S) -> bool:
    """Waits until no program of a cluster that was killed works in the directory; whether there were any.

    Raises CommandError where they do not end within `left_s`.
    """
    path = data_dir / _PROGRAMS
    if not path.is_file():
        return False
    with path.open("a+") as programs:
        return _wait_until_free(programs, left_s)


def _wait_until_free(programs: IO[str], left_s: float) -> bool:
    """The file is locked alone then. Whether anybody had to be waited for."""
    waited = False
    deadline = time.monotonic() + left_s
    while True:
        try:
            fcntl.flock(programs, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError:
            if not waited:
                output.stderr().print("waits for the programs of a command that was killed to end …")
                waited = True
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{Path(programs.name).parent} is still worked in by {_who_has_open(programs.name)}, "
                    f"left by a command that was killed; {left_s:g} s were not enough for them to end"
                ) from None
        time.sleep(_POLL_S)


def _who_has_open(path: str) -> str:
    resolved = str(Path(path).resolve())
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(file.path == resolved for file in process.open_files()):
                found.append(f"process {process.pid} ({process.name()})")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return ", ".join(found) or "a program of another machine"


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
