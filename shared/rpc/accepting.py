"""A server of gRPC for asyncio that takes up calls as they come.

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

from shared.errors import WarmstartError
from shared.telemetry.logs import logger

# Calls of one method that are taken up in the same round at most.
_AT_ONCE = 64
_LOG = logger("rpc")


class Gate(Protocol):
    """Which calls are let in, asked before anything of a call is read."""

    def refusal(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> WarmstartError | None:
        """Why a unary call of `method` ("/package.Service/Method") is not let in; None where it is."""
        ...

    async def turn_away(
        self, method: str, context: grpc.aio.ServicerContext[Any, Any], why: WarmstartError
    ) -> None:
        """Ends a call that is not."""
        ...


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]  # gRPC has no types for it
    """gRPC's server and its loop, with more requests for the next call of each method."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gate: Gate,
        interceptors: tuple[grpc.aio.ServerInterceptor, ...],
        options: tuple[tuple[str, Any], ...],
    ) -> None:
        super().__init__(loop, None, (), interceptors, options, None)
        self._event_loop = loop
        self._gate = gate
        self._around = interceptors
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._resolver = cygrpc._MethodResolver([], self._handlers)
        self._tasks: set[asyncio.Task[None]] = set()

    def add_registered_method_handlers(self, method_handlers: dict[str, Any]) -> None:
        super().add_registered_method_handlers(method_handlers)
        self._handlers.update(method_handlers)

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
        gated = self._handlers[name].unary_unary is not None
        while self.is_running():
            # Nothing of the last call is held while the next one is awaited: gRPC counts it as open.
            with suppress(cygrpc._RequestCallError):  # the server stops, or the connection broke
                self._taken_up(name, gated, await self._request_registered_call(method))

    def _taken_up(self, name: str, gated: bool, state: Any) -> None:
        context = cygrpc._ServicerContext(state, None, None, self._event_loop)
        refusal = self._gate.refusal(name, context) if gated else None
        if refusal is not None:
            self._start(self._turn_away(name, context, refusal))
            return
        handling = cygrpc._handle_rpc(name, self._resolver, self._around, state, self._event_loop, False)
        self._start(cygrpc._schedule_rpc_coro(handling, state, self._event_loop, name))

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


def server(
    gate: Gate,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    options: Sequence[tuple[str, Any]],
) -> grpc.aio.Server:
    """`grpc.aio.server(interceptors=…, options=…)`, but for how soon calls are taken up."""
    loop = cygrpc.get_working_loop()
    return cast(grpc.aio.Server, _Server(_AioServer(loop, gate, tuple(interceptors), tuple(options)), loop))
