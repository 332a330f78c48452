"""What dashboards are told of the lists."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Histogram
from prometheus_client.registry import Collector

from services.gateway.answers import Answer

_STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


@dataclass(frozen=True, slots=True)
class ListMetrics:
    """Lists by rung, stages that took no part, places by source, seconds by stage."""

    lists: Counter
    degradations: Counter
    places: Counter
    seconds: Histogram

    @classmethod
    def create(cls) -> ListMetrics:
        name = "warmstart_gateway"
        return cls(
            Counter(f"{name}_lists", "Lists answered.", ["domain", "rung"], registry=None),
            Counter(f"{name}_degradations", "Parts without a share in a list.", ["stage"], registry=None),
            Counter(f"{name}_places", "Places of lists.", ["source"], registry=None),
            Histogram(
                f"{name}_stage_seconds",
                "Seconds of a stage.",
                ["stage"],
                buckets=_STAGE_BUCKETS,
                registry=None,
            ),
        )

    @property
    def collectors(self) -> Sequence[Collector]:
        return (self.lists, self.degradations, self.places, self.seconds)

    def note(self, domain: str, answer: Answer) -> None:
        self.lists.labels(domain, answer.rung.name).inc()
        for degradation in answer.degradations:
            self.degradations.labels(degradation.stage).inc()
        for source, count in Tally(item.source for item in answer.items).items():
            self.places.labels(source).inc(count)
        for timing in answer.timings:
            self.seconds.labels(timing.stage).observe(timing.micros / 1e6)
