"""Which programs the local cluster runs, and the environment that tells them where everything is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from services.cli.certificates import CALLERS, files_of
from services.cli.cluster.ports import HOST, Ports
from services.cli.failures import CommandError
from shared.processes import leash

SERVICES = ("features", "adaptation", "scoring", "gateway", "training")
# Whose callers may have to say who they are.
DOORS = ("gateway", "training")
KEYS_FILE = "keys.json"
PROGRAMS = ("valkey", *SERVICES)
# Marks every process of one cluster in its environment, so that none can hide.
CLUSTER_MARK = leash.CLUSTER
_REPOSITORY = Path(__file__).resolve().parents[3]


def config_file() -> Path:
    """deploy/local/supervisord.conf of the checkout that this package runs from."""
    path = _REPOSITORY / "deploy" / "local" / "supervisord.conf"
    if not path.is_file():
        raise CommandError(f"{path} is missing: the local cluster runs from a checkout of the repository")
    return path


def environment(
    inherited: Mapping[str, str],
    *,
    data_dir: Path,
    ports: Ports,
    domains: str,
    socket: Path,
    held: Mapping[str, str],
    log_secret: str,
    certificates: Path | None = None,
) -> dict[str, str]:
    """What every program is told; the caller's own settings for a service stay, except for places.

    held: of `data_dir_lock`.
    """
    logs, registry = data_dir / "logs", data_dir / "registry"
    local = {f"WARMSTART_{name.upper()}_DRAIN_S": "0.2" for name in SERVICES}  # nobody watches health here
    # As `warmstart keys` writes it; read where AUTH says so.
    keys = {f"WARMSTART_{name.upper()}_AUTH_KEYS": str(data_dir / KEYS_FILE) for name in DOORS}
    local |= {f"WARMSTART_{name.upper()}_REFLECTION": "true" for name in SERVICES}
    local |= {f"WARMSTART_{name.upper()}_LOG_SECRET": log_secret for name in SERVICES}
    domain = {f"WARMSTART_{name.upper()}_DOMAINS": domains for name in SERVICES if domains}
    places = {
        "WARMSTART_UP_PYTHON": sys.executable,
        "WARMSTART_UP_LEASH": str(leash.__file__),
        "WARMSTART_UP_SOCKET": str(socket),
        "WARMSTART_UP_LOGS": str(logs),
        **held,
        "WARMSTART_VALKEY_PORT": str(ports.valkey),
        "WARMSTART_VALKEY_DIR": str(data_dir / "valkey"),
        "WARMSTART_FEATURES_STORE_URL": f"valkey://{HOST}:{ports.valkey}/0",
        "WARMSTART_ADAPTATION_FEATURES_TARGET": ports.target("features"),
        "WARMSTART_SCORING_FEATURES_TARGET": ports.target("features"),
        "WARMSTART_ADAPTATION_REGISTRY": str(registry),
        "WARMSTART_SCORING_REGISTRY": str(registry),
        "WARMSTART_GATEWAY_FEATURES_TARGET": ports.target("features"),
        "WARMSTART_GATEWAY_ADAPTATION_TARGET": ports.target("adaptation"),
        "WARMSTART_GATEWAY_SCORING_TARGET": ports.target("scoring"),
        "WARMSTART_TRAINING_FEATURES_TARGET": ports.target("features"),
        "WARMSTART_TRAINING_REGISTRY": str(registry),
        "WARMSTART_TRAINING_RUNS": str(data_dir / "runs"),
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": inherited.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    for name in SERVICES:
        places[f"WARMSTART_{name.upper()}_HOST"] = HOST
        places[f"WARMSTART_{name.upper()}_PORT"] = str(ports.by_name()[name])
        places |= _tls(name, certificates) if certificates else {}
    return {**local, **keys, **inherited, **domain, **places}


def _tls(name: str, certificates: Path) -> dict[str, str]:
    """Mutual TLS of a service: whom it believes, what it shows, whose calls it takes."""
    files = files_of(certificates, name)
    told = {"CERT": files.cert, "KEY": files.key, "CA": files.ca, "CLIENT_CA": files.ca}
    told["CLIENT_NAMES"] = ",".join(CALLERS[name])
    return {f"WARMSTART_{name.upper()}_TLS_{setting}": value for setting, value in told.items()}
