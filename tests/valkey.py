"""A real Valkey for tests: on a free port in a temporary directory, gone at the end."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from valkey import Valkey
from valkey.exceptions import ValkeyError

from deploy.local.valkey import LocalValkey

_DEADLINE_S = 20.0


class RunningValkey:
    """A server that can be killed and started again on the same data."""

    def __init__(self, config: LocalValkey) -> None:
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.config.url

    @property
    def port(self) -> int:
        return self.config.port

    @property
    def log(self) -> Path:
        return self.config.data_dir / "valkey.log"

    def client(self) -> Valkey:
        return Valkey.from_url(self.url)

    def start(self) -> None:
        """Returns once it answers."""
        command = self.config.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
                break
            except (ValkeyError, OSError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"valkey did not start: {self.log.read_text()[-2000:]}") from error
                time.sleep(0.01)
        if self.config.cluster:
            self._cover_all_slots(deadline)

    def kill(self) -> None:
        """As a crash does: no flush, no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_DEADLINE_S)
            self._process = None

    def _cover_all_slots(self, deadline: float) -> None:
        with self.client() as client:
            client.response_callbacks.clear()
            if b"cluster_slots_assigned:16384" not in client.execute_command("CLUSTER", "INFO"):
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                if time.monotonic() > deadline:
                    raise RuntimeError("the cluster did not come up")
                time.sleep(0.01)


@contextmanager
def running_valkey(*, cluster: bool = False, appendfsync: str = "always") -> Iterator[RunningValkey]:
    """A server on a free port; its directory is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="valkey-"))
    config = LocalValkey(directory, port=free_port(), cluster=cluster, appendfsync=appendfsync)
    server = RunningValkey(config)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


def replica_of(primary: RunningValkey) -> RunningValkey:
    """A server that follows `primary`; start and stop it yourself. Its directory lies in the primary's."""
    directory = primary.config.data_dir / "replica"
    server = RunningValkey(replace(primary.config, data_dir=directory, port=free_port()))
    server.start()
    with primary.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    deadline = time.monotonic() + _DEADLINE_S
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        while client.info("replication")["master_link_status"] != "up":
            if time.monotonic() > deadline:
                raise RuntimeError("the replica did not catch up")
            time.sleep(0.01)
    return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
