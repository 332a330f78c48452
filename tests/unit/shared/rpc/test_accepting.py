"""Calls are taken up as they come, and what is not let in is told so before anything of it is read."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
import uvloop
from grpc._cython import cygrpc
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.errors import Overloaded, WarmstartError
from shared.rpc import accepting
from shared.rpc import loop as loops
from shared.rpc.accepting import _AioServer
from shared.rpc.admission import Admission
from shared.rpc.channels import call, connect
from shared.rpc.loop import EventLoop
from shared.rpc.reading import Reading
from shared.rpc.server import running
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings, stub


def test_what_the_server_rests_on_is_there_in_this_grpc() -> None:
    """Where this fails, read gRPC's `aio/server.pyx.pxi` and `completion_queue.pyx.pxi` anew."""
    assert issubclass(_AioServer, cygrpc.AioServer)
    for name in ("_make_request_call_future", "_request_registered_call", "is_running"):
        assert callable(getattr(cygrpc.AioServer, name))
    handle = inspect.signature(cygrpc._handle_rpc)
    assert list(handle.parameters) == [
        "method_name", "method_resolver", "interceptors", "rpc_state", "loop", "concurrency_exceeded",
    ]  # fmt: skip
    unary = inspect.signature(cygrpc._finish_handler_with_unary_response)
    assert list(unary.parameters) == [
        "rpc_state", "unary_handler", "request", "servicer_context", "response_serializer", "loop",
    ]  # fmt: skip
    stream = inspect.signature(cygrpc._finish_handler_with_stream_responses)
    assert list(stream.parameters) == ["rpc_state", "stream_handler", "request", "servicer_context", "loop"]
    schedule = inspect.signature(cygrpc._schedule_rpc_coro)
    assert list(schedule.parameters) == ["rpc_coro", "rpc_state", "loop", "method_name"]
    assert issubclass(cygrpc._RequestCallError, Exception)
    assert isinstance(cygrpc._ServicerContext, type)
    assert isinstance(cygrpc._MethodResolver, type)


async def test_calls_that_come_together_are_in_work_together() -> None:
    """None of them ends before all have begun."""
    count, begun, all_have_begun = 30, 0, asyncio.Event()

    async def answer(request: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        nonlocal begun
        begun += 1
        if begun == count:
            all_have_begun.set()
        await all_have_begun.wait()
        return pb.GetUserContextResponse()

    async with running(TestedComponent(answer), settings()) as target, connect(target) as channel:
        ask = stub(channel).GetUserContext
        await asyncio.gather(*(ask(pb.GetUserContextRequest(), timeout=20) for _ in range(count)))
    assert begun == count


async def test_a_call_that_is_not_let_in_is_told_so_before_its_request_is_read() -> None:
    """The request is no message at all, which a server that reads it says."""
    held, end = asyncio.Event(), asyncio.Event()

    async def hold(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        held.set()
        await end.wait()
        return pb.GetUserContextResponse()

    async def garbage(target: str) -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(f"/{SERVICE}/UpsertItems")(b"\xff\xff", timeout=20)
            return refused.value.code()

    async with running(TestedComponent(hold), settings(max_concurrent_rpcs=1)) as target:
        assert await garbage(target) is grpc.StatusCode.INVALID_ARGUMENT
        async with connect(target) as channel:
            only_one = asyncio.ensure_future(
                call(stub(channel).GetUserContext, pb.GetUserContextRequest(), timeout_s=20)
            )
            await held.wait()
            assert await garbage(target) is grpc.StatusCode.RESOURCE_EXHAUSTED
            end.set()
            await only_one


async def _echo(data: bytes, context: Any) -> bytes:
    return data


class _Closed:
    """A gate that is closed at first, and whose refusals are not heard: their callers have gone."""

    def __init__(self) -> None:
        self.open = False
        self.refused = 0

    def around(self, method: str, handler: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(_echo)

    def refusal(self, method: str, context: Any) -> WarmstartError | None:
        return None if self.open else Overloaded("too much to do")

    async def turn_away(self, method: str, context: Any, why: WarmstartError) -> None:
        self.refused += 1
        if self.refused % 2:
            raise cygrpc.ExecuteBatchError("the connection broke")
        await asyncio.Event().wait()  # a caller who does not read


async def test_refusals_that_nobody_hears_do_not_keep_a_method_from_being_taken_up() -> None:
    gate, component = _Closed(), TestedComponent()
    server = accepting.server(gate, 8, ())
    component.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = stub(channel).GetUserContext
        given_up = [ask(pb.GetUserContextRequest(), timeout=60) for _ in range(200)]
        while gate.refused < 200:
            await asyncio.sleep(0.01)
        for one in given_up:
            one.cancel()
        gate.open = True
        await ask(pb.GetUserContextRequest(), timeout=20)
    await server.stop(0)


def _held() -> int:
    """Calls whose objects are there yet: gRPC counts them as open."""
    return sum(isinstance(o, cygrpc._ServicerContext) for o in gc.get_objects())


@pytest.mark.parametrize(
    "how",
    [
        "answered", "failing", "refused unread", "no message", "no request", "late request", "given up",
        "stream",
    ],
)  # fmt: skip
async def test_a_call_that_has_ended_is_held_by_nobody(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the collector's help: where too many are held, gRPC turns new calls of a connection away."""

    async def answer(request: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        if how == "failing":
            raise Overloaded("too much to do")
        if how == "given up":
            await asyncio.Event().wait()
        return pb.GetUserContextResponse()

    async def fail(_: pb.WatchItemsRequest) -> AsyncIterator[pb.WatchItemsResponse]:
        yield pb.WatchItemsResponse(cursor="1")
        raise Overloaded("too much to do")

    monkeypatch.setattr("shared.rpc.accepting.Reading", functools.partial(Reading, within_s=0.02))
    async with running(TestedComponent(answer, fail), settings()) as target:
        if how == "refused unread":
            monkeypatch.setattr(Admission, "let_in", _refuse)
        async with grpc.aio.insecure_channel(target) as channel:

            async def ask() -> None:
                with suppress(grpc.aio.AioRpcError):
                    if how == "stream":
                        async for _ in stub(channel).WatchItems(pb.WatchItemsRequest(), timeout=20):
                            pass
                    elif how in ("no request", "late request"):
                        empty = channel.stream_unary(f"/{SERVICE}/GetUserContext")(timeout=20)
                        if how == "no request":
                            await empty.done_writing()
                        await empty
                    elif how == "no message":
                        await channel.unary_unary(f"/{SERVICE}/GetUserContext")(b"\xff", timeout=20)
                    else:
                        timeout_s = 0.02 if how == "given up" else 20
                        await stub(channel).GetUserContext(pb.GetUserContextRequest(), timeout=timeout_s)

            await ask()
            gc.collect()
            before = _held()
            gc.disable()
            try:
                for _ in range(20):
                    await ask()
                deadline = time.monotonic() + 20
                while (more := _held() - before) > 0 and time.monotonic() < deadline:
                    await asyncio.sleep(0.01)
            finally:
                gc.enable()
    assert more <= 0


def _refuse(*_: Any) -> None:
    raise Overloaded("too much to do")


async def test_methods_that_there_are_not_are_unimplemented() -> None:
    async with running(TestedComponent(), settings()) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            for method in (f"/{SERVICE}/GetUserContex", "/no.Service/None", f"/{SERVICE}/"):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await channel.unary_unary(method)(b"", timeout=10)
                assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_grpc_wakes_the_loop_once_for_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred calls are over a thousand events of a byte each, which were read one a round."""
    woken = 0
    emptied = loops._emptied

    def counted(wakes: socket.socket, handle_events: Any) -> None:
        nonlocal woken
        woken += 1
        emptied(wakes, handle_events)

    monkeypatch.setattr(loops, "_emptied", counted)

    async def calls() -> None:
        async with running(TestedComponent(), settings()) as target, connect(target) as channel:
            ask = stub(channel).GetUserContext
            await asyncio.gather(*(ask(pb.GetUserContextRequest(), timeout=20) for _ in range(200)))

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(calls())
    assert 0 < woken < 500


def test_sockets_of_others_are_left_alone() -> None:
    """What is in them is theirs to read."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    read: list[bytes] = []

    async def one_message() -> None:
        done = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, functools.partial(lambda: (read.append(ours.recv(9)), done.set_result(None))))
        theirs.send(b"all of it")
        await asyncio.wait_for(done, 10)
        loop.remove_reader(ours)

    with ours, theirs, asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(one_message())
    assert read == [b"all of it"]
    assert issubclass(EventLoop, uvloop.Loop)
