"""Ray for one run: a local one that leaves nothing behind, or a cluster by its address."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shared.errors import Unavailable
from shared.processes.scratch import ray_directory

# Deaths have causes outside of training, and each costs a start of the workers and at most an eighth of a
# stage: a few of them are bad luck. What kills workers every time ends the run after as many, in minutes.
RESTARTS = 3
_LOOPBACK = "127.0.0.1"
_CONNECT_S = 5.0
_OBJECT_STORE_BYTES = 512 << 20
# What travels to a cluster: our code and the generated protos, wherever they are installed.
_TRAVELLING = ("services", "shared", "warmstart")
_LEFT_BEHIND = ["__pycache__", "*.pyc"]
# Set by Ray in the driver of a submitted job.
_JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"

RAY_ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # A busy machine takes its time: TensorFlow alone is seconds of start-up in each process.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_raylet_start_wait_time_s": "120",
    # How often the controller looks at its workers, and so how soon a finished or failed one is noticed.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# No reclaimable nodes in a local Ray; one actor fewer to start.
_LOCAL_ENVIRONMENT: Mapping[str, str] = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """address: "" for a local Ray, else a cluster's (`ray://host:10001`, `host:6379`, `auto`).

    workers: data-parallel training workers; cpus: of this machine for a local Ray (0 = all), of each
    worker on a cluster (0 = one); restarts: times that the workers of one start are started again after
    some of them died; side_by_side: trainings at a time, each with its workers and its share of the cores.
    """

    address: str = ""
    workers: int = 1
    cpus: int = 0
    restarts: int = RESTARTS
    side_by_side: int = 1

    @property
    def local(self) -> bool:
        return not self.address

    @property
    def placement(self) -> str:
        """Over as many machines as there are: each brings its own caches and memory channels."""
        return "PACK" if self.local else "SPREAD"

    @property
    def local_cpus(self) -> int:
        """Cores of this machine that may be used."""
        return (self.cpus if self.local else 0) or os.cpu_count() or 1

    @property
    def cpus_per_worker(self) -> int:
        return max(1, self.local_cpus // self.all_workers) if self.local else max(1, self.cpus)

    @property
    def all_workers(self) -> int:
        """Of all trainings at a time."""
        return self.workers * self.side_by_side


@contextmanager
def ray_session(settings: ClusterSettings, log_dir: Path) -> Iterator[None]:
    """Starts (or joins) Ray and ends it again, whatever happens; a local Ray's logs are kept in `log_dir`.

    Raises Unavailable where no cluster answers.
    """
    wanted = {**RAY_ENVIRONMENT, **(_LOCAL_ENVIRONMENT if settings.local else {})}
    os.environ.update({k: v for k, v in wanted.items() if k not in os.environ})
    with _local_ray(settings, log_dir) if settings.local else _joined_ray(settings.address):
        yield


@contextmanager
def _joined_ray(address: str) -> Iterator[None]:
    import ray

    require_answer(address)
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", runtime_env=_missing_code())
    except ConnectionError as error:
        raise Unavailable(f"no Ray cluster answers at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _local_ray(settings: ClusterSettings, log_dir: Path) -> Iterator[None]:
    import ray  # takes a second: not for those who only ask for --help

    with ray_directory() as temp_dir:
        try:
            ray.init(
                "local",
                # More workers than cores is legal, only slow.
                num_cpus=max(settings.local_cpus, settings.all_workers),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=str(temp_dir),
                _node_ip_address=_LOOPBACK,
            )
            yield
        finally:
            ray.shutdown()
            _keep_logs(temp_dir, log_dir)


def require_answer(address: str) -> None:
    """Ray itself tries for minutes. Raises Unavailable where nothing listens at a "[scheme://]host:port"."""
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto" and the like: Ray knows
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            return
    except (OSError, OverflowError) as error:
        raise Unavailable(f"no Ray cluster answers at {address}: {error}") from error


def runtime_env() -> dict[str, object]:
    """Our code travels; libraries must be installed on the cluster (image or environment).

    As modules and not as a working directory: from that, Ray would leave out what git ignores, the generated
    protos among it.
    """
    found = [find_spec(name) for name in _TRAVELLING]
    places = [list(spec.submodule_search_locations or ()) for spec in found if spec is not None]
    return {
        "py_modules": [place for (place,) in places],
        "excludes": list(_LEFT_BEHIND),
        "env_vars": dict(RAY_ENVIRONMENT),
    }


def _missing_code() -> dict[str, object] | None:
    """None in a submitted job that came with its code."""
    job = json.loads(os.environ.get(_JOB_CONFIG_VARIABLE) or "{}")
    brought = job.get("runtime_env") or {}
    return None if brought.get("py_modules") or brought.get("working_dir") else runtime_env()


def _keep_logs(temp_dir: Path, log_dir: Path) -> None:
    log_dir.mkdir(parents=True, exist_ok=True)
    for session in temp_dir.glob("session_*/logs"):
        if session.parent.name != "session_latest":
            shutil.copytree(
                session, log_dir / session.parent.name, dirs_exist_ok=True, ignore_dangling_symlinks=True
            )
