"""Runs a program that is killed when its parent dies: `python leash.py [--term] COMMAND…`.

A process that was killed with -9 cannot stop its children, so the kernel does it for us on Linux
(prctl(2), PR_SET_PDEATHSIG; it survives exec). With --term the program gets SIGTERM, so that it can stop
its own children in order, otherwise SIGKILL. Elsewhere the command runs without a leash.

Where WARMSTART_UP_PROGRAMS names a file, the program holds a shared lock on it for as long as it lives, its
forks too: so the kernel tells whether programs of a data directory are left. The file says whose turn it is
(WARMSTART_UP_CLUSTER); a straggler of an earlier cluster, forked just before that one died, does not start.

Stands alone, without imports of ours: it starts in milliseconds and then becomes the program.
"""

import ctypes
import fcntl
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# services/cli/cluster/lock.py sets both.
PROGRAMS, CLUSTER = "WARMSTART_UP_PROGRAMS", "WARMSTART_UP_CLUSTER"


def main() -> None:
    arguments = sys.argv[1:]
    on_death = signal.SIGKILL
    if arguments[:1] == ["--term"]:
        on_death, arguments = signal.SIGTERM, arguments[1:]
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(on_death), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:
            sys.exit("the parent died before the program could start")
    if path := os.environ.get(PROGRAMS):
        hold(path, os.environ.get(CLUSTER, ""))
    os.execvp(arguments[0], arguments)  # noqa: S606 - the supervisor's own command line


def hold(path: str, cluster: str) -> None:
    """Until the process ends, whatever it becomes. SystemExit where it is another cluster's turn."""
    file = os.open(path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_SH)
    if os.read(file, 100).decode() != cluster:
        sys.exit("another cluster has the data directory by now")
    os.set_inheritable(file, True)


if __name__ == "__main__":
    main()
