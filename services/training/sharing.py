"""Whether all machines of a cluster see the run's directory: asked before they read and write there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.training.cluster import ClusterSettings
from services.training.lines import Lines
from shared.errors import InvalidInput


def require_shared(directory: Path) -> None:
    """A task on every machine looks for a file made here. Needs a Ray session; brings our code there too.

    Raises InvalidInput naming the machines that do not see it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    look = ray.remote(num_cpus=0)(_sees)
    with _mark(directory) as mark:
        there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        looks = ray.get([look.options(scheduling_strategy=node).remote(str(mark)) for node in there])
    blind = [node["NodeManagerAddress"] for node, seen in zip(nodes, looks, strict=True) if not seen]
    if blind:
        rule = f"must be on a file system that all machines share ({', '.join(blind)} cannot see it)"
        raise InvalidInput.of("--run-dir", rule, str(directory))


def say_what_is_waited_for(cluster: ClusterSettings, lines: Lines) -> None:
    """Workers wait for cores that a cluster does not have, in case it grows; the user should know."""
    import ray

    wanted, there = cluster.all_workers * cluster.cpus_per_worker, int(ray.cluster_resources().get("CPU", 0))
    if wanted > there:
        lines.log(
            f"{cluster.all_workers} workers ask for {wanted} CPUs, the cluster has {there}: waiting for more"
        )


def _sees(path: str) -> bool:
    return Path(path).is_file()


@contextmanager
def _mark(directory: Path) -> Iterator[Path]:
    """A file whose name nobody has looked for before: a network file system remembers what was not there."""
    path = directory / f".seen-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink()
