"""Whoever watches a server's health is told of each change, and holds up nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.rpc.health_service import HealthService
from shared.rpc.server import running
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Watcher:
    """A caller's end of a Watch. reads: False = nothing is ever taken off the connection."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads = reads
        self.told: list[int] = []

    async def write(self, response: Any) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        self.told.append(response.status)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise RuntimeError(f"{code.name}: {details}")


def watch(health: HealthService, watcher: Watcher, service: str = "") -> asyncio.Task[None]:
    return asyncio.ensure_future(health.Watch(health_pb2.HealthCheckRequest(service=service), watcher))


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_one_who_does_not_read_holds_up_no_other_watcher_and_no_stop() -> None:
    health = HealthService(9)
    stuck, reading = Watcher(reads=False), Watcher()
    watching = [watch(health, stuck), watch(health, reading)]
    await turns()
    health.set("", SERVING)
    await turns()
    late = Watcher()
    watching.append(watch(health, late))
    await turns()
    health.stop()
    health.set("", SERVING)  # too late
    await turns()
    assert reading.told == [NOT_SERVING, SERVING, NOT_SERVING]
    assert late.told == [SERVING, NOT_SERVING]
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def test_a_service_that_is_not_there_yet_is_unknown_until_it_is() -> None:
    health, watcher = HealthService(1), Watcher()
    watching = watch(health, watcher, "lists")
    await turns()
    health.set("lists", SERVING)
    await turns()
    assert watcher.told == [UNKNOWN, SERVING]
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED: watchers must be at most 1"):
        await watch(health, Watcher())
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await asyncio.wait_for(turns(), 10)
    again = watch(health, Watcher())
    await turns()
    assert not again.done()
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_a_real_server_tells_its_health() -> None:
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
                assert answer.status == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=20)
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
            watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
            assert (await watching.read()).status == SERVING
            watching.cancel()
