"""Which gateway to call: --gateway or WARMSTART_GATEWAY, else the local cluster's, else the default.

The default is no answer where another data directory was asked for: what is done there, deletions included,
must not happen to whatever cluster is at hand.
"""

from __future__ import annotations

from pathlib import Path

from services.cli import options
from services.cli.cluster.ports import DEFAULT_BASE_PORT, Ports
from services.cli.cluster.state import read_state
from services.cli.failures import CommandError

DEFAULT_GATEWAY = Ports.from_base(DEFAULT_BASE_PORT).target("gateway")


def gateway_target(given: str, data_dir: Path) -> str:
    """ "host:port" of the gateway. Raises CommandError where none runs on a directory that was named."""
    if given:
        return given
    state = read_state(data_dir)
    if state is None and data_dir != options.DATA_DIR:
        raise CommandError(
            f"no cluster runs on {data_dir}: start it with `warmstart up --data-dir {data_dir}`,"
            " or name its gateway with --gateway"
        )
    return state.gateway if state else DEFAULT_GATEWAY
