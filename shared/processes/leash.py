"""Runs a program that is killed when its parent dies: `python leash.py [--term] COMMAND…`.

A process that was killed with -9 cannot stop its children, so the kernel does it for us on Linux
(prctl(2), PR_SET_PDEATHSIG; it survives exec). With --term the program gets SIGTERM, so that it can stop
its own children in order, otherwise SIGKILL. Elsewhere the command runs without a leash.

Stands alone, without imports of ours: it starts in milliseconds and then becomes the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


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
    os.execvp(arguments[0], arguments)  # noqa: S606 - the supervisor's own command line


if __name__ == "__main__":
    main()
