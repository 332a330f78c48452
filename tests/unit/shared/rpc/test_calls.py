"""Calls over real sockets: answers, errors, deadlines and ids come through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from warmstart.common.v1.item_pb2 import Item
from warmstart.features.v1 import feature_service_pb2 as pb

from shared import errors
from shared.rpc.channels import call, connect, stream
from shared.rpc.server import running
from shared.rpc.serving import ServedCall, background_context, begin, remaining_s, served_call
from tests.unit.shared.rpc.servers import TestedComponent, settings, stub

REQUEST = pb.GetUserContextRequest(user_id="ada")


async def ask(component: TestedComponent, request: Any = REQUEST, **changes: Any) -> Any:
    """One call to a fresh server."""
    async with running(component, settings(**changes)) as address, connect(address) as channel:
        return await call(stub(channel).GetUserContext, request, timeout_s=5.0)


def raising(error: Exception) -> TestedComponent:
    async def answer(_: Any) -> Any:
        raise error

    return TestedComponent(answer)


async def test_an_answer_comes_back() -> None:
    component = TestedComponent()
    answer = await ask(component)
    assert list(answer.seen_item_ids) == ["ada"]
    assert component.steps == ["start", "stop"]


async def test_a_stream_comes_back_whole() -> None:
    async with running(TestedComponent(), settings()) as address, connect(address) as channel:
        cursors = [r.cursor async for r in stream(stub(channel).WatchItems, pb.WatchItemsRequest())]
    assert cursors == ["1", "2", "3"]


@pytest.mark.parametrize(
    "raised",
    [
        errors.InvalidInput(
            [errors.violation("page_size", "must be 1..500", 0), errors.Violation("x", "x bad")]
        ),
        errors.TooLarge.of("events", "must be at most 5000", 5001),
        errors.NotFound("no person 'ada'"),
        errors.StaleCursor("cursor 7 is gone"),
        errors.EmptyCatalogue("no items yet"),
        errors.ModelNotHeld("default", "v3", ["v2", "v1"]),
        errors.Unavailable("the store is away"),
        errors.NoModel("no model yet"),
        errors.Overloaded("queue full"),
        errors.DeadlinePassed("too late"),
        errors.ArtifactError("sha256 differs", metadata={"file": "rows/id.npy"}),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_an_error_arrives_as_it_was_raised(raised: errors.WarmstartError) -> None:
    with pytest.raises(errors.WarmstartError) as caught:
        await ask(raising(raised))
    got = caught.value
    assert type(got) is type(raised)
    assert str(got) == str(raised)
    assert got.metadata == raised.metadata
    assert getattr(got, "violations", None) == getattr(raised, "violations", None)
    assert getattr(got, "held", None) == getattr(raised, "held", None)


async def test_an_unexpected_error_is_internal_and_says_nothing_of_its_cause() -> None:
    with pytest.raises(errors.WarmstartError, match="internal error; request id") as caught:
        await ask(raising(KeyError("secret")))
    assert type(caught.value) is errors.WarmstartError
    assert "secret" not in str(caught.value)


async def test_the_errors_of_a_task_group_are_unwrapped() -> None:
    with pytest.raises(errors.NotFound, match="gone"):
        await ask(raising(ExceptionGroup("two", [errors.NotFound("gone"), errors.NotFound("too")])))


async def test_an_error_in_a_stream_arrives_after_the_answers_before_it() -> None:
    async def watch(_: Any) -> AsyncIterator[Any]:
        yield pb.WatchItemsResponse(cursor="1")
        raise errors.StaleCursor("cursor 1 is gone")

    got: list[str] = []
    component = TestedComponent(watch=watch)
    async with running(component, settings()) as address, connect(address) as channel:
        with pytest.raises(errors.StaleCursor, match="cursor 1 is gone"):
            async for response in stream(stub(channel).WatchItems, pb.WatchItemsRequest()):
                got.append(response.cursor)
    assert got == ["1"]


async def test_a_hundred_violations_fit_into_the_trailers() -> None:
    many = [errors.violation(f"events[{i}].value", "must be finite", "x" * 500) for i in range(100)]
    with pytest.raises(errors.InvalidInput) as caught:
        await ask(raising(errors.InvalidInput(many)))
    assert caught.value.violations[:10] == tuple(many[:10])
    assert caught.value.violations[10].description == "… and 90 more"


async def test_what_remains_of_a_request_bounds_the_calls_made_for_it() -> None:
    seen: list[float] = []

    async def inner(request: Any) -> Any:
        seen.append(remaining_s(99.0))
        return pb.GetUserContextResponse()

    async with running(TestedComponent(inner), settings()) as far, connect(far) as channel:

        async def outer(request: Any) -> Any:
            return await call(stub(channel).GetUserContext, request, timeout_s=60.0)

        async with running(TestedComponent(outer), settings()) as near, connect(near) as door:
            await call(stub(door).GetUserContext, REQUEST, timeout_s=20.0)
            await stub(door).GetUserContext(REQUEST)  # without a deadline the call's own limit holds
    # On the wire gRPC rounds deadlines up, by at most a hundredth or so.
    assert 5.0 < seen[0] <= 21.0
    assert 45.0 < seen[1] <= 61.0


async def test_a_deadline_ends_the_call_on_both_ends() -> None:
    cancelled = asyncio.Event()

    async def sleep(_: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(TestedComponent(sleep), settings()) as address, connect(address) as channel:
        started = time.monotonic()
        with pytest.raises(errors.DeadlinePassed):
            await call(stub(channel).GetUserContext, REQUEST, timeout_s=0.2)
        assert time.monotonic() - started < 10.0
        await asyncio.wait_for(cancelled.wait(), 5.0)


async def test_the_request_id_is_kept_along_the_chain_and_returned() -> None:
    seen: list[str] = []

    async def inner(request: Any) -> Any:
        served = served_call()
        seen.append(served.request_id if served else "")
        return pb.GetUserContextResponse()

    async with running(TestedComponent(inner), settings()) as far, connect(far) as channel:

        async def outer(request: Any) -> Any:
            return await call(stub(channel).GetUserContext, request, timeout_s=5.0)

        async with running(TestedComponent(outer), settings()) as near, connect(near) as door:
            made = stub(door).GetUserContext(REQUEST, metadata=(("x-request-id", "abc-1"),))
            await made
            assert ("x-request-id", "abc-1") in tuple(await made.trailing_metadata())
            await stub(door).GetUserContext(REQUEST, metadata=(("x-request-id", "bad id!"),))
    assert seen[0] == "abc-1"
    assert len(seen[1]) == 32


async def test_work_that_outlives_the_request_keeps_its_id_and_forgets_its_deadline() -> None:
    seen: list[tuple[str, float]] = []

    async def note() -> None:
        served = served_call()
        seen.append((served.request_id if served else "", remaining_s(99.0)))

    async def answer(_: Any) -> Any:
        await asyncio.create_task(note())
        await asyncio.create_task(note(), context=background_context())
        return pb.GetUserContextResponse()

    async with running(TestedComponent(answer), settings()) as address, connect(address) as channel:
        await stub(channel).GetUserContext(REQUEST, timeout=20.0, metadata=(("x-request-id", "abc-1"),))
    (first_id, bounded), (second_id, unbounded) = seen
    assert first_id == second_id == "abc-1"
    assert bounded < 30.0
    assert unbounded == 99.0
    assert served_call() is None


async def test_no_call_is_made_when_no_time_remains() -> None:
    calls = 0

    async def inner(_: Any) -> Any:
        nonlocal calls
        calls += 1
        return pb.GetUserContextResponse()

    async with running(TestedComponent(inner), settings()) as far, connect(far) as channel:

        async def outer(_: Any) -> Any:
            begin(ServedCall("late", deadline=time.monotonic() - 1.0))
            return await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)

        with pytest.raises(errors.DeadlinePassed, match="no time remains for this call"):
            await ask(TestedComponent(outer))
    assert calls == 0


async def test_a_message_over_the_limit_is_refused_with_field_limit_and_size() -> None:
    request = pb.UpsertItemsRequest(items=[Item(item_id="i", description="x" * 100_000)])
    component = TestedComponent()
    async with running(component, settings(max_message_bytes=1 << 16)) as address:
        async with connect(address) as channel:
            with pytest.raises(errors.TooLarge, match="request must be at most 65536 bytes, got 100"):
                await call(stub(channel).UpsertItems, request, timeout_s=5.0)
            # Far over the limit gRPC itself refuses it; the server lives on.
            huge = pb.UpsertItemsRequest(items=[Item(description="x" * 5_000_000)])
            with pytest.raises(errors.TooLarge, match=r"larger than max \(50000\d\d vs. 131072\)"):
                await call(stub(channel).UpsertItems, huge, timeout_s=5.0)
            await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)


async def test_a_malformed_message_is_the_callers_fault() -> None:
    async with running(TestedComponent(), settings()) as address, connect(address) as channel:
        raw = channel.unary_unary("/warmstart.features.v1.FeatureService/GetUserContext")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request must be a well-formed request of" in (caught.value.details() or "")


async def test_a_method_that_the_servicer_leaves_out_is_unimplemented() -> None:
    async with running(TestedComponent(), settings()) as address, connect(address) as channel:
        with pytest.raises(errors.WarmstartError, match="UNIMPLEMENTED"):
            await call(stub(channel).DeleteUser, pb.DeleteUserRequest(), timeout_s=5.0)
