"""supervisord as a child process, asked over its unix socket (XML-RPC)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from services.cli.cluster.layout import CLUSTER_MARK

_POLL_S = 0.05
# Six programs, each at most stopwaitsecs, one after the other.
_STOP_S = 155.0
# sun_path holds 108 bytes on Linux, 104 on macOS; supervisord first binds "<path>.<pid>".
_MAX_SOCKET_BYTES = 103
_SUPERVISOR_SUFFIX_BYTES = 9


@dataclass(frozen=True, slots=True)
class ProgramState:
    """One program as the supervisor sees it. `state`: RUNNING, STARTING, BACKOFF, FATAL, EXITED, …"""

    name: str
    state: str
    pid: int
    uptime_s: float
    group: str


class Supervisor:
    """A supervisord in the foreground, in a session of its own: Ctrl-C reaches `up` alone, which then stops
    everything in order."""

    def __init__(self, config: Path, environment: Mapping[str, str], data_dir: Path) -> None:
        self._config = config
        self._environment = dict(environment)
        self._data_dir = data_dir
        self.mark = environment[CLUSTER_MARK]
        self._socket = Path(environment["WARMSTART_UP_SOCKET"])
        self._log = data_dir / "logs" / "supervisord.log"
        self._words = data_dir / "logs" / "supervisord.out"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Apart from making it, so that `stop` finds what was started when a signal comes in between."""
        leash = self._environment["WARMSTART_UP_LEASH"]
        command = [sys.executable, leash, "--term", sys.executable, "-m", "deploy.local.run_supervisor"]
        with self._words.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [*command, "--nodaemon", "--configuration", str(self._config)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """Where it says why it died: its log, or what it printed where it came to no log."""
        return self._words if self._words.is_file() and self._words.stat().st_size else self._log

    def start_again(self, program: ProgramState) -> None:
        """Once it was given up (FATAL)."""
        with suppress(OSError, HTTPException, xmlrpc.client.Error):  # it has changed meanwhile, or is away
            self._proxy().supervisor.startProcess(f"{program.group}:{program.name}", False)

    def states(self) -> dict[str, ProgramState]:
        """By program; empty while the supervisor does not answer yet."""
        try:
            infos: Any = self._proxy().supervisor.getAllProcessInfo()
        except (OSError, HTTPException, xmlrpc.client.Error):
            return {}
        return {
            info["name"]: ProgramState(
                info["name"],
                info["statename"],
                int(info["pid"]),
                float(info["now"] - info["start"]) if info["pid"] else 0.0,
                info["group"],
            )
            for info in infos
        }

    def stop(self) -> None:
        """Stops every program in order, then the supervisor; returns when no process is left."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.kill_leftovers()
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._data_dir:
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def kill(self) -> None:
        """Stops everything at once, without order or mercy."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()
        self.stop()

    def kill_leftovers(self) -> None:
        """Kills what still carries this cluster's mark: nothing, unless the supervisor itself was killed or a
        signal came while it was started."""
        deadline = time.monotonic() + 10.0
        while left := marked_processes(self.mark):
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes do not die: {[p.pid for p in left]}")
            time.sleep(_POLL_S)

    def _proxy(self) -> xmlrpc.client.ServerProxy:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)


def socket_path(data_dir: Path) -> Path:
    """In the data directory, or in a fresh one of its own where that path is too long for a socket."""
    path = data_dir / "up.sock"
    if len(os.fsencode(path)) + _SUPERVISOR_SUFFIX_BYTES <= _MAX_SOCKET_BYTES:
        return path
    return Path(tempfile.mkdtemp(prefix="warmstart-")) / "up.sock"


def marked_processes(mark: str) -> list[psutil.Process]:
    """Living processes of one cluster, by their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(CLUSTER_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
