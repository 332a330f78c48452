"""A real Valkey for tests: on a free port in a temporary directory, gone at the end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from valkey import Valkey
from valkey.exceptions import ValkeyError

from deploy.local.valkey import LocalValkey
from tests.ports import free_port

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

    def start(self, *, cover_slots: bool = True) -> None:
        """Returns once it answers; a cluster's node: once it holds all slots, unless told not to."""
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
        if self.config.cluster and cover_slots:
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
    config = LocalValkey(
        directory, port=free_port(), cluster=cluster, cluster_port=free_port(), appendfsync=appendfsync
    )
    server = RunningValkey(config)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


def replica_of(primary: RunningValkey) -> RunningValkey:
    """A server that follows `primary` and has caught up, in its directory; stop it yourself."""
    config = replace(
        primary.config,
        data_dir=primary.config.data_dir / "replica",
        port=free_port(),
        cluster_port=free_port(),
    )
    server = RunningValkey(config)
    server.start(cover_slots=False)
    with primary.client() as leader, server.client() as client:
        leader.config_set("repl-diskless-sync-delay", 0)
        if config.cluster:
            _join(leader, client, primary.config)
        else:
            client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        _until(lambda: client.info("replication").get("master_link_status") == "up", "the replica caught up")
    return server


def _join(leader: Valkey, client: Valkey, config: LocalValkey) -> None:
    for each in (leader, client):
        each.response_callbacks.pop("CLUSTER MYID", None)
    name = leader.execute_command("CLUSTER", "MYID").decode()
    client.execute_command("CLUSTER", "MEET", "127.0.0.1", config.port, config.cluster_port)

    def follows() -> bool:
        try:
            client.execute_command("CLUSTER", "REPLICATE", name)
        except ValkeyError:  # the nodes do not know each other yet
            return False
        return True

    _until(follows, "the nodes met")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_DEADLINE_S:g} s: {what}")
        time.sleep(0.02)
