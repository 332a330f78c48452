"""What Prometheus is told of the trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.training.service.training import State


class TrainingCollector(Collector):
    """Reads the state at each scrape, so that it cannot go stale. counts: trainings by domain and state."""

    def __init__(self, domains: Iterable[str], counts: Callable[[], Mapping[tuple[str, State], int]]) -> None:
        self._domains, self._counts = tuple(domains), counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ("domain", "state")
        trainings = GaugeMetricFamily("warmstart_trainings", "Trainings noted, by state.", labels=labels)
        counts = self._counts()
        for domain in self._domains:
            for state in State:
                trainings.add_metric((domain, state.name.lower()), counts.get((domain, state), 0))
        yield trainings
