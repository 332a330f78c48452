"""Calls whose requests do not come are held by no server for long, nor in any number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.errors import DeadlinePassed, InvalidInput, Overloaded, WarmstartError
from shared.rpc.admission import Admission
from shared.rpc.channels import call, connect
from shared.rpc.interceptors import ServiceInterceptor
from shared.rpc.reading import Context, Reading
from shared.rpc.server import running
from shared.rpc.status import from_rpc_error
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings, stub
from tests.unit.shared.rpc.test_doors import door

UNARY, STREAM, HEALTH = f"/{SERVICE}/GetUserContext", f"/{SERVICE}/WatchItems", "/grpc.health.v1.Health/Watch"


def begun(channel: grpc.aio.Channel, method: str) -> grpc.aio.StreamUnaryCall[Any, Any]:
    """A call of which nothing but its headers is sent."""
    return channel.stream_unary(method)()


async def refused(call: Awaitable[Any]) -> WarmstartError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await asyncio.wait_for(call, 20)
    return from_rpc_error(error.value)


def reading(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Reading]) -> None:
    monkeypatch.setattr("shared.rpc.accepting.Reading", change)


@pytest.mark.parametrize("method", [UNARY, STREAM, HEALTH])
async def test_a_request_must_come_soon_after_its_call(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reading(monkeypatch, partial(Reading, within_s=0.2))
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            late = [begun(channel, method) for _ in range(3)]
            for one in late:
                error = await refused(one)
                assert isinstance(error, DeadlinePassed)
                assert str(error) == "the request must come within 0.2 s of its call"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_of_too_many_the_one_that_was_begun_first_gives_way() -> None:
    given_up: list[tuple[Any, ...]] = []
    calls = Reading(2, lambda *told: given_up.append(told), within_s=60.0)
    a, b, c, d, e = (cast(Context, name) for name in "abcde")
    for one in (a, b, c):
        calls.begin(UNARY, one)
    calls.end(b)
    calls.end(a)  # what reads it is told that it has ended
    calls.begin(UNARY, d)
    assert [(method, context) for method, context, _ in given_up] == [(UNARY, a)]
    calls.begin(STREAM, e)
    assert [context for _, context, _ in given_up] == [a, c]
    assert str(given_up[0][2]) == "requests on their way must be at most 2, got one more"


async def test_what_comes_with_its_request_is_read_however_many_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading(monkeypatch, lambda most, turn_away: Reading(3, turn_away))
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel, connect(target) as ours:
            slow = [asyncio.ensure_future(refused(begun(channel, UNARY))) for _ in range(4)]
            done, rest = await asyncio.wait(slow, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert isinstance(done.pop().result(), Overloaded)
            await call(stub(ours).GetUserContext, pb.GetUserContextRequest(), timeout_s=20)
            for one in rest:
                one.cancel()
            await asyncio.gather(*rest, return_exceptions=True)


async def test_a_call_is_handled_or_turned_away_never_both(monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, lambda most, turn_away: Reading(1, turn_away))
    handled = 0

    async def answer(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        nonlocal handled
        handled += 1
        return pb.GetUserContextResponse()

    async with running(TestedComponent(answer), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            asked = [stub(channel).GetUserContext(pb.GetUserContextRequest()) for _ in range(100)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
    refusals = [from_rpc_error(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert refusals
    assert all(isinstance(refusal, Overloaded) for refusal in refusals)
    assert handled == len(answers) - len(refusals)


@pytest.mark.parametrize("broken", ["let_in", "refusal"])
async def test_a_bug_before_a_call_is_read_is_that_calls_alone(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    bugs = iter(["a bug"])
    owner = {"let_in": Admission, "refusal": ServiceInterceptor}[broken]
    whole = getattr(owner, broken)

    def fails_once(*rest: Any) -> Any:
        for bug in bugs:
            raise ValueError(bug)
        return whole(*rest)

    monkeypatch.setattr(owner, broken, fails_once)
    async with running(TestedComponent(), settings()) as target, grpc.aio.insecure_channel(target) as channel:
        first = stub(channel).GetUserContext(pb.GetUserContextRequest(), timeout=0.5)
        error = await refused(first)
        assert str(error) == {"let_in": "internal error", "refusal": "CANCELLED"}[broken]
        for _ in range(3):
            await stub(channel).GetUserContext(pb.GetUserContextRequest(), timeout=20)


async def test_a_request_that_is_slow_but_comes_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, partial(Reading, within_s=20.0))
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            slow = begun(channel, UNARY)
            await asyncio.sleep(0.2)  # it is slow
            await slow.write(pb.GetUserContextRequest(user_id="ada").SerializeToString())
            assert pb.GetUserContextResponse.FromString(await slow).seen_item_ids == ["ada"]


async def test_a_call_without_a_request_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            for method in (UNARY, STREAM, HEALTH):
                empty = begun(channel, method)
                await empty.done_writing()
                error = await refused(empty)
                assert isinstance(error, InvalidInput)
                assert str(error) == "request must be one message, got None"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_of_a_stranger_no_request_is_waited_for(tmp_path: Path) -> None:
    told, _ = door(tmp_path)
    async with running(TestedComponent(), told) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            for method in (UNARY, STREAM):
                assert (await refused(begun(channel, method))).code == "UNAUTHENTICATED"


async def test_strangers_take_no_place_of_those_who_may_call(tmp_path: Path) -> None:
    """The headers of one would be a call on its way to the other."""
    told, key = door(tmp_path, max_concurrent_rpcs=1)
    async with running(TestedComponent(), told) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            strangers = [begun(channel, UNARY) for _ in range(20)]
            known = channel.unary_unary(UNARY)(b"", metadata=(("authorization", f"Bearer {key}"),))
            answers = [await refused(one) for one in (*strangers, known)]
    # FeatureService is no door's, so that the key has no scope for it.
    assert [a.code for a in answers] == ["UNAUTHENTICATED"] * 20 + ["PERMISSION_DENIED"]
