"""Which gateway to call: --gateway or WARMSTART_GATEWAY, else the local cluster's, else the default."""

from __future__ import annotations

from pathlib import Path

from services.cli import options
from services.cli.cluster.ports import DEFAULT_BASE_PORT, Ports
from services.cli.cluster.state import read_state
from services.cli.failures import CommandError

DEFAULT_GATEWAY = Ports.from_base(DEFAULT_BASE_PORT).target("gateway")


def gateway_target(given: str, data_dir: Path) -> str:
    """ "host:port" of the gateway.

    Raises CommandError where the caller named a data directory, by option or environment, that no cluster
    runs on: the default gateway may be another cluster's, with other people's data.
    """
    if given:
        return given
    state = read_state(data_dir)
    if state is not None:
        return state.gateway
    if options.data_dir_is_given():
        raise CommandError(
            f"no cluster runs on {data_dir}: start it with `warmstart up --data-dir {data_dir}`, "
            "or name a gateway with --gateway HOST:PORT"
        )
    return DEFAULT_GATEWAY
