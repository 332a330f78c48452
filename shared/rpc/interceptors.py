"""What every server does around a call: admit it, note its deadline, time and log it, translate errors."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog

from shared.errors import DeadlinePassed, InvalidInput, Overloaded, TooLarge, Unavailable, WarmstartError
from shared.rpc.admission import Admission, Priority, priority_of
from shared.rpc.credentials import KnownClients
from shared.rpc.people import people_of
from shared.rpc.serving import ServedCall, begin
from shared.rpc.status import DETAILS_KEY, from_rpc_error, status_code, to_status
from shared.telemetry.hiding import people_served
from shared.telemetry.logs import logger
from shared.telemetry.metrics import ServerMetrics

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
# Health checks and reflection answer whatever state the server is in.
_PLUMBING = ("/grpc.health.", "/grpc.reflection.")
# Statuses that are the server's fault or its dependencies'; the others are the caller's.
_OURS = frozenset(("INTERNAL", "UNAVAILABLE", "UNKNOWN", "DATA_LOSS"))
# Not logged each: of those that are refused for too many there are many.
_QUIET = frozenset(("OK", "CANCELLED", Overloaded.code))
_NO_MORE = object()
_LOG = logger("rpc")

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]


@dataclass(slots=True, eq=False)
class _OpenStream:
    """A stream's answers one by one, until the stopping server ends it.

    Only the wait for the next answer is cut short, never the sending of one: gRPC would not let a call
    end in order that has an operation in work.
    """

    server: str
    answers: AsyncIterator[Any]
    ended: bool = False
    waiting: asyncio.Future[Any] | None = None

    def end(self) -> None:
        self.ended = True
        if self.waiting is not None:
            self.waiting.cancel()

    async def next(self) -> Any:
        """The next answer, _NO_MORE after the last one. Raises Unavailable once ended."""
        if not self.ended:
            self.waiting = asyncio.ensure_future(_next(self.answers))
            try:
                return await self.waiting
            except asyncio.CancelledError:
                if not self.ended:
                    raise  # the caller went away
            finally:
                self.waiting = None
        raise Unavailable(f"{self.server} is stopping")


@dataclass(frozen=True, slots=True)
class _Refused:
    """Stands for a request that could not be parsed; raised where the caller can be answered properly."""

    error: WarmstartError


@dataclass(slots=True)
class _Call:
    method: str
    context: Context
    request_id: str
    started: float
    deadline: float | None

    @property
    def remaining_s(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A method's handlers. inner: the servicer's own; refusing: for calls that are not let in, None for
    streams, which are few and long."""

    inner: Handler
    priority: Priority
    serving: Handler
    refusing: Handler | None


class ServiceInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of ours; health and reflection pass untouched.

    Unary-unary handlers must be coroutine functions, unary-stream handlers async generators.
    """

    def __init__(
        self, admission: Admission, metrics: ServerMetrics, max_message_bytes: int, known: KnownClients
    ) -> None:
        self._admission = admission
        self._known = known
        self._metrics = metrics
        self._max_message_bytes = max_message_bytes
        self._wrapped: dict[str, _Wrapped] = {}
        self._streams: set[_OpenStream] = set()

    def end_streams(self) -> None:
        """Ends open streams with UNAVAILABLE: a watch would else last out the whole grace period."""
        self._admission.ready = False
        for stream in tuple(self._streams):
            stream.end()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_PLUMBING):
            return handler
        known = self._wrapped.get(method)
        if known is None or known.inner is not handler:
            known = self._wrapped[method] = self._wrap(method, handler)
        if known.refusing is not None and not self._lets_in(known.priority):
            return known.refusing
        return known.serving

    def _lets_in(self, priority: Priority) -> bool:
        try:
            self._admission.check(priority)
        except WarmstartError:
            return False
        return True

    def _wrap(self, method: str, handler: Handler) -> _Wrapped:
        priority = priority_of(method)
        if inspect.iscoroutinefunction(handler.unary_unary):
            refusing: Handler = grpc.unary_unary_rpc_method_handler(self._refusing(method, priority))
            return _Wrapped(handler, priority, self._serving(method, handler, priority), refusing)
        return _Wrapped(handler, priority, self._serving(method, handler, priority), None)

    def _serving(self, method: str, handler: Handler, priority: Priority) -> Handler:
        parse = self._parser(method, handler.request_deserializer)
        if inspect.iscoroutinefunction(handler.unary_unary):
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary, priority), parse, handler.response_serializer
            )
        if inspect.isasyncgenfunction(handler.unary_stream):
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream), parse, handler.response_serializer
            )
        return handler  # the generated base's own method, which answers UNIMPLEMENTED

    def _parser(self, method: str, parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        if parse is None:
            raise TypeError(f"{method}: the method has no request type")

        def parsed(data: bytes) -> Any:
            if len(data) > self._max_message_bytes:
                rule = f"must be at most {self._max_message_bytes} bytes"
                return _Refused(TooLarge.of("request", rule, len(data)))
            try:
                return parse(data)
            except Exception as error:
                rule = f"must be a well-formed request of {method} ({error})"
                return _Refused(InvalidInput.of("request", rule, data[:40]))

        return parsed

    def _refusing(self, method: str, priority: Priority) -> Any:
        """Answers a call that is not let in. Its request is not even parsed: refusing must cost little."""

        async def refuse(request: Any, context: Context) -> Any:
            call = _arrive(method, context)
            try:
                self._admission.check(priority, call.remaining_s)
                raise Overloaded(f"{self._admission.name} had too much to do")  # room was made since
            except WarmstartError as error:
                await self._fail(call, error)

        return refuse

    def _unary(self, method: str, behaviour: Any, priority: Priority) -> Any:
        admission, in_work = self._admission, self._metrics.in_work

        async def unary(request: Any, context: Context) -> Any:
            call = _arrive(method, context)
            in_work.inc()
            with people_served(partial(people_of, request)):
                try:
                    self._known.check(context)
                    _check(request, call)
                    await admission.begin(priority, call.remaining_s)
                    try:
                        response = await behaviour(request, context)
                    finally:
                        admission.end()
                except BaseException as error:
                    await self._fail(call, error)
                finally:
                    in_work.dec()
                self._finish(call, "OK")
                return response

        return unary

    def _stream(self, method: str, behaviour: Any) -> Any:
        admission = self._admission

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            call = _arrive(method, context)
            self._metrics.in_work.inc()
            try:
                self._known.check(context)
                _check(request, call)
                if not admission.ready:
                    raise Unavailable(f"{admission.name} is starting or stopping")
                async with aclosing(behaviour(request, context)) as responses:
                    opened = _OpenStream(admission.name, responses)
                    self._streams.add(opened)
                    try:
                        while (response := await opened.next()) is not _NO_MORE:
                            yield response
                    finally:
                        self._streams.discard(opened)
            except BaseException as error:
                await self._fail(call, error)
            finally:
                self._metrics.in_work.dec()
            self._finish(call, "OK")

        return stream

    async def _fail(self, call: _Call, error: BaseException) -> NoReturn:
        """Ends the call with the status that fits `error`."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            # The caller went away, or its deadline passed and gRPC cancelled the handler.
            late = call.deadline is not None and time.monotonic() >= call.deadline
            self._finish(call, "DEADLINE_EXCEEDED" if late else "CANCELLED")
            raise error
        if isinstance(error, grpc.aio.AbortError) or not isinstance(error, Exception):
            self._finish(call, "UNKNOWN")
            raise error
        known = _known(error, call)
        if known is None:
            _LOG.error("call failed", method=call.method, exc_info=error)
            known = WarmstartError(f"internal error; request id {call.request_id}")
        code = status_code(known)
        self._finish(call, code.name, str(known))
        details = to_status(known)
        await call.context.abort(
            code,
            details.message,
            ((DETAILS_KEY, details.SerializeToString()), (REQUEST_ID_KEY, call.request_id)),
        )

    def _finish(self, call: _Call, code: str, message: str = "") -> None:
        seconds = time.monotonic() - call.started
        self._metrics.calls.labels(call.method, code).inc()
        self._metrics.seconds.labels(call.method).observe(seconds)
        say = _LOG.debug if code in _QUIET else _LOG.warning if code in _OURS else _LOG.info
        say("call", method=call.method, code=code, millis=round(seconds * 1000, 3), message=message)


async def _next(answers: AsyncIterator[Any]) -> Any:
    return await anext(answers, _NO_MORE)


def _arrive(method: str, context: Context) -> _Call:
    now = time.monotonic()
    remaining: float | None = context.time_remaining()
    deadline = None if remaining is None else now + remaining
    call = _Call(method, context, _request_id(context), now, deadline)
    begin(ServedCall(call.request_id, deadline))
    structlog.contextvars.bind_contextvars(request_id=call.request_id)
    context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
    return call


def _request_id(context: Context) -> str:
    """The caller's id where it is well-formed, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


def _check(request: Any, call: _Call) -> None:
    if isinstance(request, _Refused):
        raise request.error
    if call.deadline is not None and time.monotonic() >= call.deadline:
        raise DeadlinePassed("the deadline had passed when the call arrived")


def _known(error: Exception, call: _Call) -> WarmstartError | None:
    """The error as one of ours, None where it is unexpected."""
    if isinstance(error, WarmstartError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return from_rpc_error(error)
    if isinstance(error, TimeoutError) and call.deadline is not None and time.monotonic() >= call.deadline:
        return DeadlinePassed("the deadline passed while the call was in work")
    if isinstance(error, ExceptionGroup):
        inner = [_known(e, call) for e in error.exceptions]
        return inner[0] if all(inner) else None
    return None
