"""A process with all that it started."""

from __future__ import annotations

from collections.abc import Sequence

import psutil


def family_of(pid: int) -> list[psutil.Process]:
    """Its children and theirs (Ray's daemons, training workers), not itself. Ask while it lives: the children
    of a dead process have another parent."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def kill(processes: Sequence[psutil.Process]) -> None:
    """At once; those that have ended are passed over."""
    for process in processes:
        try:
            process.kill()  # psutil refuses a process id that was used again
        except psutil.NoSuchProcess:
            continue


def has_ended(process: psutil.Process) -> bool:
    """A zombie has: whether its parent ever asks for its end is not ours to wait for."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
