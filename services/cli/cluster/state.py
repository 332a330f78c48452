"""cluster.json: where the local cluster is called, written by `warmstart up`, read by the other commands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from services.cli.cluster.ports import HOST, Ports

_NAME = "cluster.json"


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A running local cluster. `pid` and `started` (seconds since the epoch) name the process of `up`.

    certificates: the directory of its certificates, "" = it has no TLS.
    """

    pid: int
    started: float
    ports: Ports
    certificates: str = ""

    @property
    def gateway(self) -> str:
        return f"{HOST}:{self.ports.gateway}"

    @property
    def alive(self) -> bool:
        """Whether the very process that wrote this still runs (process ids are used again)."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.NoSuchProcess:
            return False


def write_state(data_dir: Path, ports: Ports, certificates: Path | None = None) -> ClusterState:
    """Written beside and renamed: a reader sees all of it or nothing."""
    me = psutil.Process()
    state = ClusterState(me.pid, me.create_time(), ports, str(certificates or ""))
    draft = data_dir / f".{_NAME}.{me.pid}"
    draft.write_text(json.dumps({**asdict(state), "gateway": state.gateway}, indent=2) + "\n")
    draft.replace(data_dir / _NAME)
    return state


def read_state(data_dir: Path) -> ClusterState | None:
    """The cluster that runs on this data directory, None where there is none (a stale file is none)."""
    try:
        raw = json.loads((data_dir / _NAME).read_text())
        state = ClusterState(
            int(raw["pid"]), float(raw["started"]), Ports(**raw["ports"]), str(raw.get("certificates", ""))
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return state if state.alive else None


def remove_state(data_dir: Path) -> None:
    (data_dir / _NAME).unlink(missing_ok=True)
