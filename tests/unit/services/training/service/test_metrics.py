"""What Prometheus is told."""

from __future__ import annotations

from services.training.service.metrics import TrainingCollector
from services.training.service.training import State


def test_every_state_of_every_domain_has_a_number() -> None:
    """Also 0, so that a graph has no holes."""
    (family,) = TrainingCollector(["shop", "films"], lambda: {("shop", State.RUNNING): 1}).collect()
    told = {(s.labels["domain"], s.labels["state"]): s.value for s in family.samples}
    assert told[("shop", "running")] == 1
    assert len(told) == 2 * len(State)
    assert sum(told.values()) == 1
