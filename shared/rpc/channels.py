"""Channels to other servers: deadlines passed on, retries under a budget, our errors back."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from shared.errors import DeadlinePassed, SettingsError
from shared.rpc.interceptors import REQUEST_ID_KEY
from shared.rpc.serving import remaining_s, served_call
from shared.rpc.status import from_rpc_error

Q = TypeVar("Q")
R = TypeVar("R")

DEFAULT_MAX_MESSAGE_BYTES = 64 << 20
MAX_ATTEMPTS = 4
_FIRST_BACKOFF_S = 0.025

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Servers that say NOT_SERVING (starting, draining) get no calls.
        "healthCheckConfig": {"serviceName": ""},
    }
)
# Whether the call being made may be repeated; a client interceptor sees no other trace of it.
_IDEMPOTENT: ContextVar[bool] = ContextVar("warmstart_idempotent", default=False)


@dataclass(slots=True)
class RetryBudget:
    """A token bucket: each call adds `ratio` of a token, each retry takes one, so a server in trouble sees at
    most `ratio` more calls. (Google SRE book, ch. 21, "Handling Overload": per-client retry budget.)"""

    ratio: float = 0.1
    capacity: float = 10.0
    tokens: float = 10.0

    def note_call(self) -> None:
        self.tokens = min(self.capacity, self.tokens + self.ratio)

    def take(self) -> bool:
        """True where one more retry is allowed."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


def connect(
    target: str, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES, budget: RetryBudget | None = None
) -> grpc.aio.Channel:
    """A channel to every server behind `target`, round robin over those that are SERVING.

    target: "host:port" (each address the name resolves to is used), or several "ip:port" separated by
    commas; SettingsError otherwise. max_message_bytes bounds the answers. Connects lazily, and after a
    loss tries again at least once a second. Calls that never reached a server are sent again by gRPC.
    """
    options = [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the server says what is too large
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 3_000),  # how long one attempt may take, not a pause
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ]
    return grpc.aio.insecure_channel(
        _address(target), options, interceptors=[_Unary(budget or RetryBudget()), _Stream()]
    )


async def call(
    rpc: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, *, timeout_s: float, idempotent: bool = False
) -> R:
    """One call; raises our errors, as the server raised them.

    Its deadline is `timeout_s`, or what remains of the request being served where that is less.
    Where `idempotent`, UNAVAILABLE is tried again (at most 3 times) under the channel's retry budget.
    """
    allowed_s = remaining_s(timeout_s)
    if allowed_s <= 0.0:
        raise DeadlinePassed("no time remains for this call")
    token = _IDEMPOTENT.set(idempotent)
    try:
        # The interceptor's task copies the context as the call is made.
        made = rpc(request, timeout=allowed_s)
    finally:
        _IDEMPOTENT.reset(token)
    try:
        return await made
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def stream(
    rpc: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, *, timeout_s: float | None = None
) -> AsyncGenerator[R, None]:
    """The answers of a streaming call; raises our errors. No deadline where `timeout_s` is None.

    Leaving the loop early cancels the call once the generator is closed: use `contextlib.aclosing`.
    """
    made = rpc(request, timeout=timeout_s)
    try:
        async for response in made:
            yield response
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    finally:
        made.cancel()


def _address(target: str) -> str:
    """gRPC's name for the target; several addresses become one ipv4: or ipv6: list."""
    if not target.strip():
        raise SettingsError("a server to call must be host:port, got ''")
    if "," not in target or target.startswith(("ipv4:", "ipv6:", "dns:", "unix:")):
        return target
    addresses = [part.strip() for part in target.split(",")]
    try:
        versions = {ipaddress.ip_address(a.rpartition(":")[0].strip("[]")).version for a in addresses}
    except ValueError as error:
        raise SettingsError(f"several servers to call must be ip:port,ip:port, got {target!r}") from error
    if len(versions) > 1:
        raise SettingsError(f"several servers to call must be all IPv4 or all IPv6, got {target!r}")
    return f"ipv{versions.pop()}:" + ",".join(addresses)


async def _code(made: Any) -> grpc.StatusCode:
    """The status of a call once it has ended; where the waiting ends first, so does the call."""
    try:
        code: grpc.StatusCode = await made.code()
    except asyncio.CancelledError:
        made.cancel()
        raise
    return code


def _with_context(details: grpc.aio.ClientCallDetails, timeout: float | None) -> grpc.aio.ClientCallDetails:
    """The same call with the request's id and `timeout`."""
    metadata = details.metadata if details.metadata is not None else grpc.aio.Metadata()
    if metadata.get(REQUEST_ID_KEY) is None:
        served = served_call()
        metadata.add(REQUEST_ID_KEY, served.request_id if served else uuid.uuid4().hex)
    return grpc.aio.ClientCallDetails(
        details.method, timeout, metadata, details.credentials, details.wait_for_ready
    )


def _timeout(asked_s: float | None) -> float | None:
    """What remains of the request being served, at most `asked_s`; None = no bound."""
    allowed = remaining_s(float("inf") if asked_s is None else asked_s)
    return None if allowed == float("inf") else allowed


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    """Passes deadline and request id on; repeats idempotent calls that found no server."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        timeout_s = _timeout(client_call_details.timeout)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        attempts = MAX_ATTEMPTS if _IDEMPOTENT.get() else 1
        self._budget.note_call()
        details = _with_context(client_call_details, timeout_s)
        for attempt in range(1, attempts + 1):
            made = await continuation(details, request)
            if attempt == attempts or await _code(made) is not grpc.StatusCode.UNAVAILABLE:
                return made
            # Full jitter, so that callers of a server that came back do not arrive together.
            pause_s = random.uniform(0.0, _FIRST_BACKOFF_S * 2 ** (attempt - 1))
            left_s = None if deadline is None else deadline - time.monotonic() - pause_s
            if (left_s is not None and left_s <= 0.0) or not self._budget.take():
                return made
            await asyncio.sleep(pause_s)
            details = _with_context(details, left_s)
        raise AssertionError("unreachable: the last attempt returns")


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    """Passes deadline and request id on."""

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        return await continuation(
            _with_context(client_call_details, _timeout(client_call_details.timeout)), request
        )
