"""What `python -m services.training` is told, from what the user said."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.cli import options, tls
from services.cli.cluster.state import ClusterState, read_state
from services.cli.failures import CommandError
from services.cli.reading import Reading
from services.cli.training.child import is_job_server


def source_arguments(
    data_dir: Path,
    features_target: str,
    dataset: str,
    path: Path | None,
    files: Mapping[str, Path | None],
    reading: Reading,
) -> Any:
    """A function giving the options that say where the data come from; called where a run is new."""

    def arguments() -> list[str]:
        given = [f"--{kind}={file}" for kind, file in files.items() if file is not None]
        given += reading.arguments()
        if dataset:
            given += [f"--dataset={dataset}", *([f"--path={path}"] if path else [])]
        if features_target or not (dataset or any(files.values())):
            given.append(f"--features-target={features_target or _local_features(data_dir)}")
        return given

    return arguments


def erasures_arguments(data_dir: Path, features_target: str, address: str) -> list[str]:
    """Beside data that were copied before: the feature service that is asked who has been erased since, where
    it is named or runs on this data directory. Data of files need none, so it may also be missing."""
    state = None if features_target or is_job_server(address) else read_state(data_dir)
    target = _features_of(state) if state is not None else features_target
    return [f"--features-target={target}"] if target else []


def train_arguments(data_dir: Path, source: Sequence[str], *, preset: str) -> list[str]:
    """The options of a first training, all else at its defaults."""
    model = model_arguments(preset, ("ridge", "{}"), 0, 0, 0, ())
    return ["train", *source, *model, *place_arguments(data_dir, options.DOMAIN, "")]


def _local_features(data_dir: Path) -> str:
    state = read_state(data_dir)
    if state is None:
        raise CommandError(
            "nothing to train on: no cluster runs on this data directory. Start one with `warmstart up` and "
            "import, or say where the data are with --features-target, --dataset or --events"
        )
    return _features_of(state)


def _features_of(state: ClusterState) -> str:
    """That of a local cluster, which is then called with its certificates."""
    if state.certificates:
        tls.use_certificates(Path(state.certificates))
    return state.ports.target("features")


def model_arguments(
    preset: str,
    adapter: tuple[str, str],
    seed: int,
    pretrain_steps: int,
    meta_steps: int,
    held_out: Sequence[str],
) -> list[str]:
    """adapter: its name and its settings."""
    given = ["--preset", preset, "--adapter", adapter[0], f"--adapter-settings={adapter[1]}"]
    given += ["--seed", str(seed)]
    given += ["--pretrain-steps", str(pretrain_steps), "--meta-steps", str(meta_steps)]
    return [*given, *held_out]


def private_arguments(epsilon: float | None, delta: float) -> list[str]:
    """δ has no meaning without ε, so what is said of it is passed on and refused there."""
    return [*([f"--private-epsilon={epsilon}"] if epsilon is not None else []), f"--private-delta={delta}"]


def held_out_arguments(share: float, users: Path | None) -> list[str]:
    return ["--held-out-share", str(share), *(["--held-out-users", str(users)] if users else [])]


def place_arguments(data_dir: Path, domain: str, address: str) -> list[str]:
    if is_job_server(address) and not data_dir.is_absolute():
        raise CommandError(
            f"--data-dir must be an absolute path with --address {address}, on a file system that all "
            f"machines of the cluster share, got {data_dir}"
        )
    data_dir = data_dir.absolute() if address else data_dir
    moment = datetime.fromtimestamp(time.time(), UTC)
    run = data_dir / "runs" / f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"
    place = ["--domain", domain, "--registry", str(data_dir / "registry"), "--run-dir", str(run)]
    return [*place, *(["--data-dir", str(data_dir)] if options.data_dir_is_given() else [])]


def resource_arguments(workers: int, cpus: int, restarts: int) -> list[str]:
    return ["--workers", str(workers), "--cpus", str(cpus), "--restarts", str(restarts)]


def cluster_arguments(address: str) -> list[str]:
    return [f"--address={address}"] if address else []
