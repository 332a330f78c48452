"""A file that one process at a time holds; the kernel lets it go whatever way the holder ends.

What a dead holder wrote into it stays and means nothing: only the lock counts.
"""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as it wrote itself down. Machines share volumes, and containers count their
    processes each for itself, so a process id alone names nobody."""

    pid: int
    machine: str

    @classmethod
    def this_process(cls) -> Holder:
        return cls(os.getpid(), socket.gethostname())

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """None where nobody wrote themselves down."""
        pid, _, machine = text.strip().partition(" ")
        return cls(int(pid), machine or socket.gethostname()) if pid.isascii() and pid.isdigit() else None

    @property
    def is_here(self) -> bool:
        """Whether its process id is one of this machine's."""
        return self.machine == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid}" if self.is_here else f"process {self.pid} of machine {self.machine}"


class FileLock:
    """One file. Over network file systems too, where they know locks (NFS does)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self) -> str:
        """Returns "" once it is held, else who holds it, in words. Raises OSError where the file cannot be
        made, or its file system knows no locks."""
        file = self._file or self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = Holder.read(file.read())
            file.close()
            return str(holder) if holder is not None else "an unknown process"
        except OSError:
            file.close()
            raise
        file.truncate(0)
        me = Holder.this_process()
        file.write(f"{me.pid} {me.machine}\n")
        file.flush()
        self._file = file
        return ""

    def let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
