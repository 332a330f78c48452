"""What Prometheus is told of the models: which are held, how many items they know, how large batches are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.domain import HeldModel

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)


def batch_sizes() -> Histogram:
    """Jobs a batch; belongs to no registry yet."""
    return Histogram(
        "warmstart_model_batch_jobs", "Jobs in a batch of the model.", buckets=BATCH_BUCKETS, registry=None
    )


class ModelCollector(Collector):
    """Reads the state at each scrape, so that it cannot go stale.

    held: the versions of every domain, each domain's champion first. waiting: jobs in the queue.
    """

    def __init__(
        self, held: Callable[[], Iterable[tuple[HeldModel, ...]]], waiting: Callable[[], int]
    ) -> None:
        self._held = held
        self._waiting = waiting

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ("domain", "version", "champion")
        items = GaugeMetricFamily(
            "warmstart_model_items", "Items with rows in a version held.", labels=labels
        )
        for versions in self._held():
            for place, one in enumerate(versions):
                champion = "false" if place else "true"
                items.add_metric((one.ref.domain, one.ref.version, champion), one.num_items)
        yield items
        queued = GaugeMetricFamily("warmstart_model_queued_jobs", "Jobs that wait for the model.")
        queued.add_metric((), self._waiting())
        yield queued
