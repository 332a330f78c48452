"""Whoever watches a server's health is told of each change, and holds up nobody else."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.rpc.channels import call, connect
from shared.rpc.health_service import HealthService
from shared.rpc.server import running
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings, stub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Watcher:
    """A caller's end of a Watch. reads: False = nothing is ever taken off the connection."""

    def __init__(self, connection: str = "one", *, reads: bool = True) -> None:
        self.connection, self.reads = connection, reads
        self.told: list[int] = []
        self.code: grpc.StatusCode | None = None

    def peer(self) -> str:
        return self.connection

    async def write(self, response: Any) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        self.told.append(response.status)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        assert "of a connection" in details


def watch(health: HealthService, watcher: Watcher, service: str = "") -> asyncio.Task[None]:
    return asyncio.ensure_future(health.Watch(health_pb2.HealthCheckRequest(service=service), watcher))


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_one_who_does_not_read_holds_up_no_other_watcher_and_no_stop() -> None:
    health = HealthService()
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
    health, watcher = HealthService(), Watcher()
    watching = watch(health, watcher, "lists")
    await turns()
    health.set("lists", SERVING)
    await turns()
    assert watcher.told == [UNKNOWN, SERVING]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_connection_has_so_many_watchers_and_others_have_theirs() -> None:
    """One too many is told nothing but that it may go on without; room is made by one that ends."""
    health = HealthService(most=3, most_a_connection=2)
    watching = [watch(health, Watcher(name)) for name in ("greedy", "greedy", "shop")]
    await turns()
    for name in ("greedy", "another"):
        one_too_many = Watcher(name)
        await watch(health, one_too_many)
        assert (one_too_many.code, one_too_many.told) == (grpc.StatusCode.UNIMPLEMENTED, [])
    watching[0].cancel()
    await turns()
    late = Watcher("another")
    watching.append(watch(health, late))
    await turns()
    assert late.told == [NOT_SERVING]
    health.end()
    await asyncio.gather(*watching, return_exceptions=True)
    assert health._watchers == {}


async def test_strangers_who_watch_keep_no_channel_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours ask for a server's health by themselves, and would have none where they are refused."""
    monkeypatch.setattr("shared.rpc.server.HealthService", partial(HealthService, most=5))
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            watches = [
                health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in "12345"
            ]
            assert [(await watch.read()).status for watch in watches] == [SERVING] * 5
            async with connect(target) as ours:
                await call(stub(ours).GetUserContext, pb.GetUserContextRequest(), timeout_s=20)


async def test_watchers_hold_up_no_stop_and_do_not_come_again_while_calls_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched, held, end = 0, asyncio.Event(), asyncio.Event()

    class Counted(HealthService):
        async def Watch(self, request: Any, context: Any) -> None:
            nonlocal watched
            watched += 1
            await super().Watch(request, context)

    async def hold(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        held.set()
        await end.wait()
        return pb.GetUserContextResponse()

    monkeypatch.setattr("shared.rpc.server.HealthService", Counted)
    async with running(TestedComponent(hold), settings(grace_s=60)) as target:
        ours, channel = connect(target), grpc.aio.insecure_channel(target)
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == SERVING
        in_work = asyncio.ensure_future(
            call(stub(ours).GetUserContext, pb.GetUserContextRequest(), timeout_s=50)
        )
        await held.wait()
        asyncio.get_running_loop().call_later(0.3, end.set)  # while the server stops
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert (await watching.read()).status == NOT_SERVING
    assert await watching.read() == grpc.aio.EOF
    await in_work
    assert watched == 2
    for one in (ours, channel):
        await one.close()


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
