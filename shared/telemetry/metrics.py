"""Prometheus metrics of a server: calls by method and status, their seconds, calls in work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from shared.errors import SettingsError

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
                "Seconds from request to answer; streams count until they end.",
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


@contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int) -> Iterator[int | None]:
    """Serves `/metrics` on its own thread; port 0 takes a free one, -1 serves nothing. Yields the port."""
    if port < 0:
        yield None
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
