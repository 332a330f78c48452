"""Servers start, drain and die without their callers noticing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.errors import Overloaded, SettingsError, TooLarge, Unavailable, WarmstartError
from shared.rpc.channels import RetryBudget, Throttle, call, connect, stream
from shared.rpc.health import check, wait_until_serving
from shared.rpc.server import running
from tests.ports import free_port
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings, stub

REQUEST = pb.GetUserContextRequest(user_id="ada")


@dataclass
class Replica:
    process: asyncio.subprocess.Process
    address: str

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20.0)


@asynccontextmanager
async def replica(port: int | None = None, **changes: object) -> AsyncIterator[Replica]:
    """A server in a process of its own; killed at the end if it still runs."""
    port = port or free_port()
    told = {"PORT": port, "DRAIN_S": 0.5, "LOG_LEVEL": "warning"} | changes
    environment = os.environ | {f"WARMSTART_REPLICA_{name}": str(value) for name, value in told.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.unit.shared.rpc.replica",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Replica(process, f"127.0.0.1:{port}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@dataclass
class Callers:
    """Calls without a pause until told to stop; counts answers by process and keeps every failure."""

    answers: dict[str, int] = field(default_factory=dict)
    failures: list[WarmstartError] = field(default_factory=list)
    stopped: bool = False

    async def run(self, channel: grpc.aio.Channel, *, idempotent: bool) -> None:
        rpc = stub(channel).GetUserContext
        while not self.stopped:
            try:
                answer = await call(rpc, REQUEST, timeout_s=10.0, idempotent=idempotent)
            except WarmstartError as error:
                self.failures.append(error)
            else:
                pid = answer.seen_item_ids[0]
                self.answers[pid] = self.answers.get(pid, 0) + 1

    async def until_answered(self, more: int) -> None:
        """Returns once `more` further calls are answered."""
        goal = sum(self.answers.values()) + more
        async with asyncio.timeout(20.0):
            while sum(self.answers.values()) < goal:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def calling(target: str, *, idempotent: bool, callers: int = 8) -> AsyncIterator[Callers]:
    counted = Callers()
    async with connect(target) as channel, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(counted.run(channel, idempotent=idempotent))
        try:
            yield counted
        finally:
            counted.stopped = True


async def test_a_replica_that_is_told_to_stop_fails_no_call() -> None:
    async with replica() as one, replica() as two:
        await asyncio.gather(wait_until_serving(one.address, 20), wait_until_serving(two.address, 20))
        async with calling(f"{one.address},{two.address}", idempotent=False) as callers:
            await callers.until_answered(100)
            assert await one.end() == 0
            await callers.until_answered(100)
    assert callers.failures == []
    assert len(callers.answers) == 2


async def test_a_replica_that_hangs_is_left_and_fails_no_idempotent_call_that_has_the_time() -> None:
    """Its connections stay open; only pings that have no answer tell, within four seconds."""
    async with replica() as one, replica() as two:
        await asyncio.gather(wait_until_serving(one.address, 20), wait_until_serving(two.address, 20))
        async with calling(f"{one.address},{two.address}", idempotent=True) as callers:
            await callers.until_answered(100)
            one.process.send_signal(signal.SIGSTOP)
            # Callers wait for the one that hangs, each with one call, and then go on with the other.
            await callers.until_answered(100)
    assert callers.failures == []


async def test_a_replica_that_is_killed_fails_no_idempotent_call() -> None:
    async with replica() as one, replica() as two:
        await asyncio.gather(wait_until_serving(one.address, 20), wait_until_serving(two.address, 20))
        async with calling(f"{one.address},{two.address}", idempotent=True) as callers:
            await callers.until_answered(100)
            assert await one.end(signal.SIGKILL) == -signal.SIGKILL
            await callers.until_answered(100)
    assert callers.failures == []


async def test_callers_find_a_server_again_soon_after_its_return() -> None:
    port = free_port()
    async with connect(f"127.0.0.1:{port}") as channel:
        async with replica(port) as first:
            await wait_until_serving(first.address, 20)
            await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
            await first.end(signal.SIGKILL)
            with pytest.raises(Unavailable):
                await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
        async with replica(port) as second:
            await wait_until_serving(second.address, 20)
            returned = time.monotonic()
            async with asyncio.timeout(10):
                while True:
                    try:
                        await call(stub(channel).GetUserContext, REQUEST, timeout_s=1.0)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.02)
            # The backoff is at most a second; gRPC's own default would be up to two minutes.
            assert time.monotonic() - returned < 5.0


async def test_a_stop_while_starting_ends_the_server() -> None:
    async with replica(START_S=60) as starting:
        async with asyncio.timeout(20):
            while await check(starting.address) != "NOT_SERVING":
                await asyncio.sleep(0.02)
        assert await starting.end() == 0


async def test_a_second_signal_cuts_the_drain_short() -> None:
    async with replica(DRAIN_S=60) as server:
        await wait_until_serving(server.address, 20)
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while await check(server.address) != "NOT_SERVING":
                await asyncio.sleep(0.01)
        assert await server.end() == 0


@pytest.mark.parametrize(("work_s", "ends_well"), [(1.0, True), (60.0, False)], ids=["short", "long"])
async def test_a_call_in_work_is_finished_within_the_grace_and_a_longer_one_ended(
    work_s: float, ends_well: bool
) -> None:
    """Also where a second signal comes meanwhile: it cuts the drain short, not the calls."""
    metrics = free_port()
    told = {"DRAIN_S": 0.0, "GRACE_S": 2.0, "WORK_S": work_s, "METRICS_PORT": metrics}
    async with replica(**told) as server, connect(server.address) as channel:
        await wait_until_serving(server.address, 20)
        asking = asyncio.create_task(call(stub(channel).GetUserContext, REQUEST, timeout_s=20.0))
        async with asyncio.timeout(10):
            while await asyncio.to_thread(_in_work, metrics) < 1:
                await asyncio.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert await server.end() == 0
        if ends_well:
            assert (await asking).seen_item_ids == [str(server.process.pid)]
        else:
            with pytest.raises(Unavailable):
                await asking


def _in_work(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found = re.search(r"^warmstart_rpc_in_work (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])


async def test_a_taken_port_is_named_and_so_are_the_settings() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        component = TestedComponent()
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with running(component, settings(port=port)):
                pass
        async with replica(port) as process:
            _, said = await asyncio.wait_for(process.process.communicate(), 20)
            assert process.process.returncode == 1
            assert b"(set WARMSTART_REPLICA_HOST and WARMSTART_REPLICA_PORT)" in said
    assert component.steps == ["stop"]


async def test_bad_settings_end_the_process_with_code_2_and_every_bad_name() -> None:
    async with replica(PORT="high", GRACE_S=-1) as process:
        _, said = await asyncio.wait_for(process.process.communicate(), 20)
    assert process.process.returncode == 2
    assert b"WARMSTART_REPLICA_PORT: " in said
    assert b"WARMSTART_REPLICA_GRACE_S: " in said


async def test_a_starting_server_is_not_serving_and_refuses_calls() -> None:
    ready = asyncio.Event()
    port = free_port()

    async def serve_until(done: asyncio.Event) -> None:
        async with running(TestedComponent(on_start=ready.wait), settings(port=port)):
            await done.wait()

    done = asyncio.Event()
    server = asyncio.create_task(serve_until(done))
    async with asyncio.timeout(10):
        while await check(f"127.0.0.1:{port}") != "NOT_SERVING":
            await asyncio.sleep(0.01)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as unaware:
        with pytest.raises(grpc.aio.AioRpcError, match="server is starting or stopping") as caught:
            await stub(unaware).GetUserContext(REQUEST)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(Unavailable, match=r"was not SERVING within 0.1 s; last state: NOT_SERVING"):
        await wait_until_serving(f"127.0.0.1:{port}", 0.1)
    ready.set()
    await wait_until_serving(f"127.0.0.1:{port}", 10)
    done.set()
    await server


async def test_a_start_that_fails_says_why_and_still_cleans_up() -> None:
    async def fail() -> None:
        raise Unavailable("the store did not answer within 3 s")

    component = TestedComponent(on_start=fail)
    with pytest.raises(Unavailable, match="the store did not answer within 3 s"):
        async with running(component, settings()):
            pass
    assert component.steps == ["start", "stop"]


async def test_health_knows_the_server_and_each_service() -> None:
    async with running(TestedComponent(), settings()) as address, grpc.aio.insecure_channel(address) as c:
        health = health_pb2_grpc.HealthStub(c)
        for service in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("on", [True, False])
async def test_reflection_lists_the_services_where_it_is_on(on: bool) -> None:
    async with running(TestedComponent(), settings(reflection=on)) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            if not on:
                # As one message: a stream is still being sent as the refusal comes.
                ask_once = channel.unary_unary(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo")
                with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                    await ask_once(b"")
                return
            request = reflection_pb2.ServerReflectionRequest(list_services="*")
            ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
            names = {s.name for s in (await ask.read()).list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_calls_over_the_limit_are_refused_but_health_answers() -> None:
    release = asyncio.Event()

    async def wait(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        await release.wait()
        return pb.GetUserContextResponse()

    async with running(TestedComponent(wait), settings(max_concurrent_rpcs=2)) as address:
        async with connect(address) as channel:
            ask = stub(channel).GetUserContext
            waiting = [asyncio.create_task(call(ask, REQUEST, timeout_s=10.0)) for _ in range(3)]
            done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert str(done.pop().exception()) == "server has 2 calls in work, its limit"
            assert await check(address) == "SERVING"
            release.set()
            await asyncio.gather(*pending)


def failing(times: int) -> tuple[TestedComponent, list[int]]:
    """A server that is UNAVAILABLE the first `times`, and the number of calls it saw."""
    seen = [0]

    async def answer(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        seen[0] += 1
        if seen[0] <= times:
            raise Unavailable("the store is away")
        return pb.GetUserContextResponse()

    return TestedComponent(answer), seen


@pytest.mark.parametrize(
    ("idempotent", "failures", "calls", "succeeds"),
    [(True, 3, 4, True), (True, 9, 4, False), (False, 1, 1, False), (False, 0, 1, True)],
)
async def test_only_idempotent_calls_are_tried_again_at_most_three_times(
    idempotent: bool, failures: int, calls: int, succeeds: bool
) -> None:
    component, seen = failing(failures)
    async with running(component, settings()) as address, connect(address) as channel:
        made = call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0, idempotent=idempotent)
        if succeeds:
            await made
        else:
            with pytest.raises(Unavailable, match="the store is away"):
                await made
    assert seen[0] == calls


async def test_retries_stop_when_the_budget_is_spent() -> None:
    """10 tokens and a tenth per call: 20 failing calls earn 2, so at most 12 retries."""
    component, seen = failing(1000)
    budget = RetryBudget(ratio=0.1, capacity=10.0, tokens=10.0)
    async with running(component, settings()) as address, connect(address, budget=budget) as channel:
        for _ in range(20):
            with pytest.raises(Unavailable):
                await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0, idempotent=True)
    # The bucket was full when the first tenths fell in, so those are lost.
    assert 20 + 10 <= seen[0] <= 20 + 12


def test_what_is_refused_most_of_the_time_is_held_back() -> None:
    """Of 40 calls 10 were taken: (40 − 2 · 10 − 5) / 41 of those that come next are held back."""
    drawn = [0.0]
    throttle = Throttle(clock=lambda: 0.0, random=lambda: drawn[0])
    for drawn[0], held in ((15 / 41 - 0.001, True), (15 / 41 + 0.001, False)):
        throttle.asked, throttle.taken = 40.0, 10.0
        assert throttle.holds_back() is held
        assert throttle.asked == 40.0 + held  # what was held back was asked for too
    throttle.asked, throttle.taken, drawn[0] = 40.0, 20.0, 0.0
    assert not throttle.holds_back()


def test_a_few_refusals_and_calls_without_an_answer_yet_hold_nothing_back() -> None:
    throttle = Throttle(clock=lambda: 100.0, random=lambda: 0.0)
    for _ in range(100):
        assert not throttle.holds_back()
    for _ in range(5):
        throttle.note_answer(refused=True)
    assert not throttle.holds_back()
    throttle.note_answer(refused=True)
    assert throttle.holds_back()


def test_refusals_of_long_ago_hold_nothing_back() -> None:
    now = [100.0]
    throttle = Throttle(clock=lambda: now[0], random=lambda: 0.1)
    for _ in range(40):
        throttle.note_answer(refused=True)
    assert throttle.holds_back()
    now[0] += 15.0 * 10  # ten half-lives
    assert not throttle.holds_back()


async def test_a_server_that_refuses_is_spared_most_calls_and_one_that_says_too_large_is_not() -> None:
    for error, most in ((Overloaded("full"), 40), (TooLarge.of("x", "must be small", 9), 60)):
        seen = [0]

        async def answer(_: pb.GetUserContextRequest, error: Any = error, seen: Any = seen) -> Any:
            seen[0] += 1
            raise error

        async with running(TestedComponent(answer), settings()) as address, connect(address) as channel:
            for _ in range(60):
                with pytest.raises(type(error)):
                    await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
            assert seen[0] <= most
            assert (seen[0] == 60) is (most == 60)
            # Other methods of the same server go through.
            await call(stub(channel).UpsertItems, pb.UpsertItemsRequest(), timeout_s=5.0)


async def test_a_retry_never_outlasts_the_deadline() -> None:
    async def slow_failure(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        await asyncio.sleep(1.0)
        raise Unavailable("the store is away")

    async with running(TestedComponent(slow_failure), settings()) as address, connect(address) as channel:
        started = time.monotonic()
        with pytest.raises(WarmstartError):
            await call(stub(channel).GetUserContext, REQUEST, timeout_s=1.2, idempotent=True)
        assert time.monotonic() - started < 3.5  # four attempts would take four seconds


async def test_an_open_stream_ends_with_unavailable_when_its_server_stops() -> None:
    async def watch(_: pb.WatchItemsRequest) -> AsyncIterator[pb.WatchItemsResponse]:
        yield pb.WatchItemsResponse(cursor="1")
        await asyncio.Event().wait()

    watching = asyncio.Event()
    got: list[str] = []

    async def follow(channel: grpc.aio.Channel) -> None:
        async for response in stream(stub(channel).WatchItems, pb.WatchItemsRequest()):
            got.append(response.cursor)
            watching.set()

    started = time.monotonic()
    async with AsyncExitStack() as around:
        async with running(TestedComponent(watch=watch), settings(grace_s=30.0)) as address:
            channel = await around.enter_async_context(connect(address))
            following = asyncio.create_task(follow(channel))
            await asyncio.wait_for(watching.wait(), 10)
        with pytest.raises(Unavailable, match="server is stopping"):
            await following
    assert got == ["1"]
    assert time.monotonic() - started < 10.0


async def test_a_stream_that_is_sending_when_its_server_stops_ends_in_order_too() -> None:
    sending = asyncio.Event()

    async def watch(_: pb.WatchItemsRequest) -> AsyncIterator[pb.WatchItemsResponse]:
        sending.set()
        yield pb.WatchItemsResponse(cursor="c" * 10_000_000)  # more than fits on the way
        await asyncio.Event().wait()

    async with AsyncExitStack() as around:
        hosting = AsyncExitStack()
        address = await hosting.enter_async_context(
            running(TestedComponent(watch=watch), settings(grace_s=30.0))
        )
        channel = await around.enter_async_context(connect(address))
        answers = stub(channel).WatchItems(pb.WatchItemsRequest())  # nobody reads yet
        await asyncio.wait_for(sending.wait(), 10)
        stopping = asyncio.create_task(hosting.aclose())
        with pytest.raises(Unavailable):
            while True:
                await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
        assert len((await answers.read()).cursor) == 10_000_000
        with pytest.raises(grpc.aio.AioRpcError, match="server is stopping"):
            await answers.read()
        await stopping


async def test_a_stream_that_its_caller_leaves_is_cancelled_on_the_server() -> None:
    cancelled = asyncio.Event()

    async def watch(_: pb.WatchItemsRequest) -> AsyncIterator[pb.WatchItemsResponse]:
        try:  # around the sending too, which the caller's leaving may find under way
            yield pb.WatchItemsResponse(cursor="1")
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with running(TestedComponent(watch=watch), settings()) as address, connect(address) as channel:
        async with aclosing(stream(stub(channel).WatchItems, pb.WatchItemsRequest())) as responses:
            async for response in responses:
                assert response.cursor == "1"
                break
        await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_call_that_its_caller_gives_up_is_cancelled_on_the_server(idempotent: bool) -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return pb.GetUserContextResponse()

    async with running(TestedComponent(wait), settings()) as address, connect(address) as channel:
        made = call(stub(channel).GetUserContext, REQUEST, timeout_s=60.0, idempotent=idempotent)
        task = asyncio.create_task(made)
        await asyncio.wait_for(arrived.wait(), 10)
        task.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "must be host:port, got ''"),
        ("gateway", "must be host:port, with a port from 1 to 65535, got 'gateway'"),
        ("gateway:85587", "with a port from 1 to 65535, got 'gateway:85587'"),
        ("gateway:0", "with a port from 1 to 65535, got 'gateway:0'"),
        (":20051", "must be host:port"),
        ("127.0.0.1:1,127.0.0.1", "with a port from 1 to 65535"),
        ("::1", "an IPv6 address in brackets, got '::1'"),
        ("one:1,two:2", "must be ip:port,ip:port, got 'one:1,two:2'"),
        ("127.0.0.1:1,[::1]:2", "must be all IPv4 or all IPv6"),
    ],
)
async def test_a_target_that_names_no_server_is_refused(target: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        connect(target)


async def test_ipv6_addresses_work_alone_and_in_lists() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    async with running(TestedComponent(), settings(host="::1")) as one:
        async with running(TestedComponent(), settings(host="::1")) as two:
            for target in (one, f"{one},{two}"):
                async with connect(target) as channel:
                    await call(stub(channel).GetUserContext, REQUEST, timeout_s=10.0)
