"""Prometheus metrics of a server: calls by method and status, their seconds, calls in work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Seconds; a list should take a few milliseconds.
CALL_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """What the interceptor measures. Each server has a registry of its own, so that tests can run several."""

    registry: CollectorRegistry
    calls: Counter
    seconds: Histogram
    in_work: Gauge

    @classmethod
    def create(cls, registry: CollectorRegistry | None = None) -> ServerMetrics:
        kept = registry or CollectorRegistry()
        return cls(
            kept,
            Counter("warmstart_rpc_calls", "RPCs answered.", ("method", "code"), registry=kept),
            Histogram(
                "warmstart_rpc_seconds",
                "Seconds from request to answer; streams count until they end, calls refused unread do not.",
                ("method",),
                buckets=CALL_BUCKETS,
                registry=kept,
            ),
            Gauge("warmstart_rpc_in_work", "RPCs in work now, streams included.", registry=kept),
        )


def process_registry() -> CollectorRegistry:
    """A registry that also tells of the process: CPU, memory, file descriptors, garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Expiry(Collector):
    def __init__(self, expires: Callable[[], datetime | None]) -> None:
        self._expires = expires

    def collect(self) -> Iterable[Metric]:
        expires = self._expires()
        if expires is not None:
            text = "When the certificate that callers are shown expires, in seconds since the epoch."
            yield GaugeMetricFamily("warmstart_tls_certificate_expires", text, expires.timestamp())


def certificate_expiry(expires: Callable[[], datetime | None]) -> Collector:
    """When the certificate that callers are shown expires, as of each scrape."""
    return _Expiry(expires)
