"""What Prometheus is told of the models."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from shared.domain import HeldModel, ModelRef
from shared.inference.metrics import ModelCollector, batch_sizes


def test_models_held_and_batches_are_told() -> None:
    held = (HeldModel(ModelRef("shop", "v2"), (), 12), HeldModel(ModelRef("shop", "v1"), (), 9))
    registry, sizes = CollectorRegistry(), batch_sizes()
    registry.register(ModelCollector(lambda: [held, ()], lambda: 3))
    registry.register(sizes)
    for size in (1, 1, 5):
        sizes.observe(size)
    told = generate_latest(registry).decode()
    assert 'warmstart_model_items{champion="true",domain="shop",version="v2"} 12.0' in told
    assert 'warmstart_model_items{champion="false",domain="shop",version="v1"} 9.0' in told
    assert "warmstart_model_queued_jobs 3.0" in told
    assert 'warmstart_model_batch_jobs_bucket{le="4.0"} 2.0' in told
    assert "warmstart_model_batch_jobs_count 3.0" in told
