"""Which gateway to call: --gateway or WARMSTART_GATEWAY, else the local cluster's, else the default."""

from __future__ import annotations

from pathlib import Path

from services.cli.cluster.ports import DEFAULT_BASE_PORT, Ports
from services.cli.cluster.state import read_state

DEFAULT_GATEWAY = Ports.from_base(DEFAULT_BASE_PORT).target("gateway")


def gateway_target(given: str, data_dir: Path) -> str:
    """ "host:port" of the gateway."""
    if given:
        return given
    state = read_state(data_dir)
    return state.gateway if state else DEFAULT_GATEWAY
