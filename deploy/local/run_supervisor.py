"""`python -m deploy.local.run_supervisor …`: supervisord, without two of its ways to fail.

On a full disk. Its own log handler tells of a failed write on standard error, which is on the same disk, and
does not expect a rotation to fail: both end in exceptions that close a program's output or end supervisord,
and with it the cluster, for a disk that is full for a moment.

On SIGTERM while it starts. A program that is told to stop before it has become itself does not hear it (it is
a copy of supervisord still, or in no process group yet), and is killed only after `stopwaitsecs`.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from supervisor import loggers, supervisord
from supervisor.options import ServerOptions


class LossyLog(loggers.RotatingFileHandler):
    """Rotates as ever; what cannot be written is lost, what can be is written again once there is room."""

    def emit(self, record: loggers.LogRecord) -> None:
        try:
            super().emit(record)
        except (OSError, ValueError):  # a rotation failed half-way: the file is closed, perhaps renamed
            self._open_again()

    def handleError(self) -> None:
        """Nobody is left to tell."""

    def _open_again(self) -> None:
        with suppress(OSError):  # with the next line, then
            self.stream.close()
        with suppress(OSError):
            self.stream = open(self.baseFilename, "ab")  # noqa: SIM115 - the handler closes it


class Options(ServerOptions):
    """A program can be stopped from the moment on that it is forked."""

    def fork(self) -> int:
        """As os.fork. Both sides make the group, as neither knows who is first; a signal waits until the
        child does with it what programs do by default."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pid = os.fork()
            if pid == 0:
                os.setpgrp()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            else:
                with suppress(OSError):  # it is another program already, or has ended
                    os.setpgid(pid, pid)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def main() -> None:
    loggers.RotatingFileHandler = LossyLog
    supervisord.ServerOptions = Options
    supervisord.main(sys.argv[1:])


if __name__ == "__main__":
    main()
