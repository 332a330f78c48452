"""Metrics as Prometheus reads them, from a real server over HTTP."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.errors import NotFound, SettingsError
from shared.rpc.channels import call, connect
from shared.rpc.server import running
from shared.telemetry.exposition import exposed
from shared.telemetry.metrics import ServerMetrics
from tests.ports import free_port
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings, stub

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
METHOD = ("method", f"/{SERVICE}/GetUserContext")


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@dataclass
class CountingComponent(TestedComponent):
    """Has a metric of its own."""

    def __post_init__(self) -> None:
        self.lists = Counter("warmstart_tested_lists", "Lists.", registry=None)

    def collectors(self) -> Iterable[Collector]:
        return (self.lists,)


async def test_calls_are_counted_by_method_and_status_and_timed() -> None:
    async def answer(request: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        if request.user_id == "nobody":
            raise NotFound("no person 'nobody'")
        return pb.GetUserContextResponse()

    port = free_port()
    component = CountingComponent(answer)
    component.lists.inc(3)
    async with running(component, settings(metrics_port=port)) as address, connect(address) as channel:
        rpc = stub(channel).GetUserContext
        for _ in range(3):
            await call(rpc, pb.GetUserContextRequest(user_id="ada"), timeout_s=5.0)
        with pytest.raises(NotFound):
            await call(rpc, pb.GetUserContextRequest(user_id="nobody"), timeout_s=5.0)
        got = await asyncio.to_thread(scrape, port)
    assert got[("warmstart_rpc_calls_total", (("code", "OK"), METHOD))] == 3
    assert got[("warmstart_rpc_calls_total", (("code", "NOT_FOUND"), METHOD))] == 1
    assert got[("warmstart_rpc_seconds_count", (METHOD,))] == 4
    assert got[("warmstart_rpc_in_work", ())] == 0
    assert got[("warmstart_tested_lists_total", ())] == 3
    assert got[("process_resident_memory_bytes", ())] > 1e6


async def test_the_metrics_port_is_closed_with_the_server() -> None:
    port = free_port()
    async with running(TestedComponent(), settings(metrics_port=port)):
        await asyncio.to_thread(scrape, port)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(scrape, port)


def test_minus_one_serves_nothing_and_zero_takes_a_free_port() -> None:
    registry = CollectorRegistry()
    with exposed(registry, "127.0.0.1", -1) as none:
        assert none is None
    with exposed(registry, "127.0.0.1", 0) as port:
        assert port is not None
        assert scrape(port) == {}


def test_a_taken_metrics_port_is_named() -> None:
    with exposed(CollectorRegistry(), "127.0.0.1", 0) as port:
        assert port is not None
        with pytest.raises(SettingsError, match=f"metrics on 127.0.0.1:{port}: Address already in use"):
            with exposed(CollectorRegistry(), "127.0.0.1", port):
                pass


def test_two_servers_in_one_process_do_not_share_metrics() -> None:
    first, second = ServerMetrics.create(), ServerMetrics.create()
    first.calls.labels("m", "OK").inc()
    assert first.registry.get_sample_value("warmstart_rpc_calls_total", {"method": "m", "code": "OK"}) == 1
    assert (
        second.registry.get_sample_value("warmstart_rpc_calls_total", {"method": "m", "code": "OK"}) is None
    )
