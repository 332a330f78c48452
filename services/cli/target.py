"""Which server to call: one named by option or environment, else the local cluster's, else the default."""

from __future__ import annotations

import shlex
from pathlib import Path

from services.cli import options, tls
from services.cli.cluster.ports import DEFAULT_BASE_PORT, Ports
from services.cli.cluster.state import read_state
from services.cli.failures import CommandError

_DEFAULTS = Ports.from_base(DEFAULT_BASE_PORT)
DEFAULT_GATEWAY = _DEFAULTS.target("gateway")
DEFAULT_SERVICE = _DEFAULTS.target("training")


def gateway_target(given: str, data_dir: Path) -> str:
    """ "host:port" of the gateway.

    Raises CommandError where the caller named a data directory, by option or environment, that no cluster
    runs on: the default gateway may be another cluster's, with other people's data.
    """
    return given or _of_cluster("gateway", data_dir, "a gateway with --gateway HOST:PORT")


def service_target(given: str, data_dir: Path) -> str:
    """The same of the training service; `local` stands for the cluster's."""
    if given != options.LOCAL and given:
        return given
    return _of_cluster("training", data_dir, "a training service with --service HOST:PORT")


def _of_cluster(name: str, data_dir: Path, otherwise: str) -> str:
    state = read_state(data_dir)
    if state is not None:
        if state.certificates:
            tls.use_certificates(Path(state.certificates))
        return state.ports.target(name)
    if options.data_dir_is_given():
        raise CommandError(
            f"no cluster runs on {data_dir}: start it with "
            f"`warmstart up --data-dir {shlex.quote(str(data_dir))}`, "
            f"or name {otherwise}"
        )
    return _DEFAULTS.target(name)
