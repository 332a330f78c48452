"""`python -m deploy.local.run_supervisor …`: supervisord whose logs may be on a full disk.

Its own handler tells of a failed write on standard error, which is on the same disk, and does not expect a
rotation to fail: both end in exceptions that close a program's output or end supervisord, and with it the
cluster, for a disk that is full for a moment.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from supervisor import loggers, supervisord


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


def main() -> None:
    loggers.RotatingFileHandler = LossyLog
    supervisord.main(sys.argv[1:])


if __name__ == "__main__":
    main()
