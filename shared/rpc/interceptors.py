"""What every server does around a call: ask whose it is, admit it, note its deadline, time and log it,
translate errors."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from shared.auth.callers import Caller
from shared.auth.guard import Guard
from shared.errors import (
    DeadlinePassed,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unavailable,
    WarmstartError,
)
from shared.rpc.admission import Admission, Priority, priority_of
from shared.rpc.credentials import KnownClients
from shared.rpc.people import people_of
from shared.rpc.serving import ServedCall, begin
from shared.rpc.status import DETAILS_KEY, from_rpc_error, status_code, to_status
from shared.rpc.streams import NO_MORE, OpenStreams
from shared.telemetry.hiding import people_served
from shared.telemetry.logs import logger
from shared.telemetry.metrics import ServerMetrics

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
# Health checks and reflection answer whatever state the server is in.
_PLUMBING = ("/grpc.health.", "/grpc.reflection.")
# Statuses that are the server's fault or its dependencies'; the others are the caller's.
_OURS = frozenset(("INTERNAL", "UNAVAILABLE", "UNKNOWN", "DATA_LOSS"))
# Not logged each: of those that are refused for too many, or that strangers make, there may be very many.
_QUIET = frozenset(("OK", "CANCELLED", Overloaded.code, Unauthenticated.code))
_LOG = logger("rpc")

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]


@dataclass(slots=True)
class _Call:
    method: str
    context: Context
    request_id: str
    started: float
    deadline: float | None
    caller: Caller | None = None
    request: Any = None

    @property
    def remaining_s(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.monotonic()


class ServiceInterceptor:
    """Around every method of ours, as `accepting.Gate`; health and reflection pass, but for requests that
    cannot be parsed.

    Unary-unary handlers must be coroutine functions, unary-stream handlers async generators.
    guard: of a door; None takes every call.
    """

    def __init__(
        self,
        admission: Admission,
        metrics: ServerMetrics,
        streams: OpenStreams,
        known: KnownClients,
        max_message_bytes: int,
        guard: Guard | None = None,
    ) -> None:
        self._admission = admission
        self._known = known
        self._metrics = metrics
        self._streams = streams
        self._max_message_bytes = max_message_bytes
        self._guard = guard
        self._priorities: dict[str, Priority] = {}  # of the unary methods

    def end_streams(self) -> None:
        """Ends open streams with UNAVAILABLE: a watch would else last out the whole grace period."""
        self._admission.ready = False
        self._streams.end()

    def around(self, method: str, handler: Handler) -> Handler:
        """What handles calls of `method`."""
        wrap = self._plumbing if method.startswith(_PLUMBING) else self._wrap
        return wrap(method, handler)

    def _plumbing(self, method: str, handler: Handler) -> Handler:
        """As it is, but that what is no request is refused as everywhere, and not logged as our failure."""
        behaviour: Any = handler.unary_unary or handler.unary_stream
        if behaviour is None:  # reflection takes a stream of requests
            return handler
        parse = self._parser(method, handler.request_deserializer)

        async def parsed(data: bytes, context: Context) -> Any:
            try:
                request = parse(data)
            except WarmstartError as error:
                await self._failed(_arrive(method, context), error)
                return None
            return await behaviour(request, context)

        make = (
            grpc.unary_unary_rpc_method_handler
            if handler.unary_unary
            else grpc.unary_stream_rpc_method_handler
        )
        return make(parsed, None, handler.response_serializer)

    def refusal(self, method: str, context: Context) -> WarmstartError | None:
        """Why a call that has just come may not go on to be read; None where it may. Whoever a door does not
        know is told so here: their calls count for nobody's turn."""
        if method.startswith(_PLUMBING):
            return None
        try:
            if self._guard is not None:
                self._guard.caller(context.invocation_metadata() or ())
            priority = self._priorities.get(method)
            if priority is not None:
                self._admission.let_in(priority, context.time_remaining())
        except WarmstartError as error:
            return error.with_traceback(None)  # its frames hold the call
        except Exception:
            _LOG.exception("a call could not be checked", method=method)
            return WarmstartError("internal error")
        return None

    async def turn_away(self, method: str, context: Context, why: WarmstartError) -> None:
        """Ends a call that may not. They come by the hundred when there is no time for them: little is made
        but what the caller is told."""
        code = status_code(why)
        self._metrics.calls.labels(method, code.name).inc()
        if self._guard is not None:
            self._guard.note(None, code.name, why)
        sent = _sent_id(context)
        say = _saying(code.name)
        say("call", method=method, code=code.name, message=str(why), request_id=sent)
        await _abort(context, code, why, ((REQUEST_ID_KEY, sent),) if sent else ())

    def _wrap(self, method: str, handler: Handler) -> Handler:
        """Requests come as bytes: of a caller who is not known none is parsed."""
        parse = self._parser(method, handler.request_deserializer)
        if inspect.iscoroutinefunction(handler.unary_unary):
            priority = self._priorities[method] = priority_of(method)
            unary = self._unary(method, handler.unary_unary, parse, priority)
            return grpc.unary_unary_rpc_method_handler(
                unary,
                None,
                handler.response_serializer,
            )
        if inspect.isasyncgenfunction(handler.unary_stream):
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream, parse), None, handler.response_serializer
            )
        return handler  # the generated base's own method, which answers UNIMPLEMENTED

    def _parser(self, method: str, parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        if parse is None:
            raise TypeError(f"{method}: the method has no request type")

        def parsed(data: bytes) -> Any:
            if len(data) > self._max_message_bytes:
                rule = f"must be at most {self._max_message_bytes} bytes"
                raise TooLarge.of("request", rule, len(data))
            try:
                return parse(data)
            except Exception as error:
                rule = f"must be a well-formed request of {method} ({error})"
                raise InvalidInput.of("request", rule, data[:40]) from error

        return parsed

    def _asked(self, call: _Call, data: bytes, parse: Callable[[bytes], Any]) -> Any:
        """The request, if its caller may ask it and there is time left."""
        self._known.check(call.context)
        guard = self._guard
        if guard is not None:
            # Anew: between gate and request a key may have been revoked.
            call.caller = guard.caller(call.context.invocation_metadata() or ())
            begin(ServedCall(call.request_id, call.deadline, call.caller))
            guard.check_method(call.caller, call.method)
        request = call.request = parse(data)
        if guard is not None and call.caller is not None:
            guard.check_request(call.caller, request)
        if call.deadline is not None and time.monotonic() >= call.deadline:
            raise DeadlinePassed("the deadline had passed when the call arrived")
        return request

    def _unary(self, method: str, behaviour: Any, parse: Callable[[bytes], Any], priority: Priority) -> Any:
        admission, in_work = self._admission, self._metrics.in_work

        async def unary(data: bytes, context: Context) -> Any:
            admission.arrived(priority)
            call = _arrive(method, context)
            in_work.inc()
            with people_served(partial(_people, call)):
                try:
                    request = self._asked(call, data, parse)
                    place = await admission.begin(priority, call.remaining_s)
                    try:
                        response = await behaviour(request, context)
                    finally:
                        admission.end(place)
                except BaseException as error:
                    if not await self._failed(call, error):
                        raise
                    return None
                finally:
                    in_work.dec()
                self._finish(call, "OK")
                return response

        return unary

    def _stream(self, method: str, behaviour: Any, parse: Callable[[bytes], Any]) -> Any:
        admission = self._admission

        async def stream(data: bytes, context: Context) -> AsyncIterator[Any]:
            call = _arrive(method, context)
            self._metrics.in_work.inc()
            try:
                request = self._asked(call, data, parse)
                if not admission.ready:
                    raise Unavailable(f"{admission.name} is starting or stopping")
                async with aclosing(behaviour(request, context)) as responses:
                    with self._streams.opened(responses, call.caller) as opened:
                        while (response := await opened.next()) is not NO_MORE:
                            yield response
            except BaseException as error:
                if not await self._failed(call, error):
                    raise
                return
            finally:
                self._metrics.in_work.dec()
            self._finish(call, "OK")

        return stream

    async def _failed(self, call: _Call, error: BaseException) -> bool:
        """Ends the call with the status that fits `error`; what a handler returns then is not sent. False
        where it has ended already, and the handler is to raise `error` on.

        No error that passes through may hold the call by its traceback: gRPC counts a call as open until the
        collector finds such a circle, and turns new ones of a connection away where it counts too many.
        """
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            # The caller went away, or its deadline passed and gRPC cancelled the handler.
            late = call.deadline is not None and time.monotonic() >= call.deadline
            self._finish(call, "DEADLINE_EXCEEDED" if late else "CANCELLED")
            return False
        if isinstance(error, grpc.aio.AbortError) or not isinstance(error, Exception):
            self._finish(call, "UNKNOWN")
            return False
        known = _known(error, call)
        if known is None:
            _LOG.error("call failed", method=call.method, exc_info=error)
            known = WarmstartError(f"internal error; request id {call.request_id}")
        code = status_code(known)
        self._finish(call, code.name, known)
        await _abort(call.context, code, known, ((REQUEST_ID_KEY, call.request_id),))
        _let_go(error)
        return True

    def _finish(self, call: _Call, code: str, error: WarmstartError | None = None) -> None:
        seconds = time.monotonic() - call.started
        self._metrics.calls.labels(call.method, code).inc()
        self._metrics.seconds.labels(call.method).observe(seconds)
        if self._guard is not None:
            self._guard.note(call.caller, code, error)
        say = _saying(code)
        said = "" if error is None else str(error)
        caller = {} if call.caller is None else {"caller": call.caller.label}
        say("call", method=call.method, code=code, millis=round(seconds * 1000, 3), message=said, **caller)


def _saying(code: str) -> Callable[..., None]:
    """How loud a call that ended so is logged."""
    return _LOG.debug if code in _QUIET else _LOG.warning if code in _OURS else _LOG.info


async def _abort(
    context: Context, code: grpc.StatusCode, error: WarmstartError, trailing: tuple[tuple[str, str], ...]
) -> None:
    details = to_status(error)
    try:
        await context.abort(code, details.message, ((DETAILS_KEY, details.SerializeToString()), *trailing))
    except grpc.aio.AbortError as aborted:
        aborted.__context__ = None
        _let_go(aborted)  # the call keeps it


def _let_go(error: BaseException | None) -> None:
    """Its frames hold the call, and perhaps what holds it."""
    while error is not None:
        error.__traceback__ = None
        for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            _let_go(inner)
        error = error.__cause__ or error.__context__


def _people(call: _Call) -> Iterator[str]:
    return people_of(call.request)


def _arrive(method: str, context: Context) -> _Call:
    now = time.monotonic()
    remaining: float | None = context.time_remaining()
    deadline = None if remaining is None else now + remaining
    call = _Call(method, context, _sent_id(context) or uuid.uuid4().hex, now, deadline)
    begin(ServedCall(call.request_id, deadline))
    structlog.contextvars.bind_contextvars(request_id=call.request_id)
    context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
    return call


def _sent_id(context: Context) -> str:
    """The caller's id; empty where there is none, or it is not well-formed."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return ""


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
