"""A server of gRPC for asyncio that takes up calls as they come, and holds none whose request does not.

gRPC's own takes up the next call of a method only some three rounds of the event loop after the one before.
Under load a round takes milliseconds, so calls wait inside gRPC, where nobody sees them, until their callers
have gone, and neither deadlines nor priorities count. With several requests for the next call outstanding,
as in gRPC's C++ servers, all that have come are taken up in the same round, and what is too much is refused.

This rests on names that gRPC does not promise: `tests/unit/shared/rpc/test_accepting.py` tells where a newer
version has other ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from shared.errors import InvalidInput, WarmstartError
from shared.rpc.reading import Reading
from shared.telemetry.logs import logger

# Calls of one method that are taken up in the same round at most.
_AT_ONCE = 64
_LOG = logger("rpc")


class Gate(Protocol):
    """Around every call. Methods are "/package.Service/Method"."""

    def around(
        self, method: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """What handles calls of a method in the place of `handler`: requests come as bytes, unless they are
        a stream."""
        ...

    def refusal(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> WarmstartError | None:
        """Why a call with one request is not let in, asked before any of it is read; None where it is."""
        ...

    async def turn_away(
        self, method: str, context: grpc.aio.ServicerContext[Any, Any], why: WarmstartError
    ) -> None:
        """Ends a call that is not, or has no request."""
        ...


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]  # gRPC has no types for it
    """gRPC's server and its loop, with more requests for the next call of each method."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gate: Gate,
        most_reading: int,
        options: tuple[tuple[str, Any], ...],
    ) -> None:
        super().__init__(loop, None, (), (), options, None)
        self._event_loop = loop
        self._gate = gate
        self._reading = Reading(most_reading, lambda *call: self._start(self._turn_away(*call)))
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._resolver = cygrpc._MethodResolver([], self._handlers)
        self._tasks: set[asyncio.Task[None]] = set()

    def add_registered_method_handlers(self, method_handlers: dict[str, Any]) -> None:
        around = {method: self._gate.around(method, handler) for method, handler in method_handlers.items()}
        super().add_registered_method_handlers(around)
        self._handlers.update(around)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """The same methods once more, with nothing around them: nothing is handled by these."""

    def _make_request_call_future(self, method: bytes | None) -> Any:
        """gRPC's loop asks for each method's next call, once; the calls of those methods never get to it.

        What has no method (None: whatever is not implemented) stays its own, and wakes it when it is to stop.
        """
        if method is None:
            return super()._make_request_call_future(method)
        for _ in range(_AT_ONCE):
            self._start(self._take_up(method))
        return self._event_loop.create_future()

    async def _take_up(self, method: bytes) -> None:
        """Takes up calls one by one until the server stops."""
        name = method.decode()
        handler = self._handlers[name]
        while self.is_running():
            # Nothing of the last call is held while the next one is awaited: gRPC counts it as open.
            with suppress(cygrpc._RequestCallError):  # the server stops, or the connection broke
                self._try_to_take_up(name, handler, await self._request_registered_call(method))

    def _try_to_take_up(self, name: str, handler: Any, state: Any) -> None:
        """A bug must not end the taking up of all calls to come; gRPC cancels this one, which is dropped."""
        try:
            self._taken_up(name, handler, state)
        except Exception:
            _LOG.exception("a call could not be taken up", method=name)

    def _taken_up(self, name: str, handler: Any, state: Any) -> None:
        if handler.request_streaming:
            handling = cygrpc._handle_rpc(name, self._resolver, (), state, self._event_loop, False)
        else:
            context = cygrpc._ServicerContext(state, None, handler.response_serializer, self._event_loop)
            refusal = self._gate.refusal(name, context)
            if refusal is not None:
                self._start(self._turn_away(name, context, refusal))
                return
            handling = self._handle(name, handler, state, context)
        self._start(cygrpc._schedule_rpc_coro(handling, state, self._event_loop, name))

    async def _handle(self, name: str, handler: Any, state: Any, context: Any) -> None:
        """As gRPC's own, but for how long it waits for the request."""
        loop = self._event_loop
        try:
            self._reading.begin(name, context)
            request = await context.read()  # raises where the call is turned away meanwhile
            if not self._reading.end(context):
                return
            if request is grpc.aio.EOF:
                await asyncio.sleep(0)  # whose caller has gone is cancelled then
                await self._turn_away(name, context, InvalidInput.of("request", "must be one message", None))
                await context.read()  # raises that the call has ended
            elif handler.unary_unary is not None:
                await cygrpc._finish_handler_with_unary_response(
                    state, handler.unary_unary, request, context, handler.response_serializer, loop
                )
            else:
                await cygrpc._finish_handler_with_stream_responses(
                    state, handler.unary_stream, request, context, loop
                )
        except BaseException:
            self._reading.end(context)
            del state, context  # the call may keep the error, and that this frame
            raise

    async def _turn_away(self, method: str, context: Any, why: WarmstartError) -> None:
        """Beside taking up the next: its caller may not read, or have gone."""
        try:
            await self._gate.turn_away(method, context, why)
        except Exception:
            _LOG.debug("a refusal was not heard", method=method, exc_info=True)

    def _start(self, coroutine: Any) -> None:
        task = self._event_loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Server(_server.Server):
    """gRPC's own but for what is inside."""

    def __init__(self, inside: _AioServer, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._server = loop, inside


def server(gate: Gate, most_reading: int, options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """`grpc.aio.server(options=…)`, but for how soon calls are taken up, and what is around them.

    most_reading: calls at once whose requests have not come yet.
    """
    loop = cygrpc.get_working_loop()
    return cast(grpc.aio.Server, _Server(_AioServer(loop, gate, most_reading, tuple(options)), loop))
