"""Channels to other servers: deadlines passed on, retries under a budget, refusals spared, our errors."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import grpc

from shared.auth.credentials import METADATA_KEY
from shared.errors import DeadlinePassed, Overloaded, SettingsError
from shared.rpc.connections import Connection, Connections
from shared.rpc.credentials import channel_credentials
from shared.rpc.interceptors import REQUEST_ID_KEY
from shared.rpc.serving import remaining_s, served_call
from shared.rpc.status import from_rpc_error
from shared.tls import TlsPem, TlsSource

Q = TypeVar("Q")
R = TypeVar("R")
# Metadata of every call of a channel.
Sent = tuple[tuple[str, str], ...]

DEFAULT_MAX_MESSAGE_BYTES = 64 << 20
MAX_ATTEMPTS = 4
_LAST_PORT = 65_535
# Targets by a scheme of gRPC's own are left to it.
_NAMED_BY_GRPC = ("ipv4:", "ipv6:", "dns:", "unix:", "unix-abstract:", "xds:", "passthrough:")
_FIRST_BACKOFF_S = 0.025
# CANCELLED comes of a server that stops, or has far too many calls to take up, before it has taken one up.
_TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Servers that say NOT_SERVING (starting, draining) get no calls.
        "healthCheckConfig": {"serviceName": ""},
    }
)


@dataclass(slots=True)
class RetryBudget:
    """A token bucket: each call adds `ratio` of a token, each retry takes one, so a server in trouble sees at
    most `ratio` more calls. (Google SRE book, ch. 21, "Handling Overload": per-client retry budget.)

    capacity: what may be saved up: all the calls that a replica takes with it when it dies are sent again.
    """

    ratio: float = 0.1
    capacity: float = 100.0
    tokens: float = 100.0

    def note_call(self) -> None:
        self.tokens = min(self.capacity, self.tokens + self.ratio)

    def take(self) -> bool:
        """True where one more retry is allowed."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class Throttle:
    """Does not send what would be refused: a server that has too much to do is not made to say so each time.

    A call is held back with probability max(0, (asked − K·taken − slack) / (asked + 1)), by what was asked
    and taken of late. (Google SRE book, ch. 21, "Handling Overload": client-side throttling; K = 2.)

    slack: refusals that hold nothing back: a few are no sign of much.
    """

    half_life_s: float = 15.0
    ratio: float = 2.0
    slack: float = 5.0
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    asked: float = 0.0
    taken: float = 0.0
    _at: float = 0.0

    def holds_back(self) -> bool:
        """Whether a call is better not sent; one that is not counts as asked and not taken."""
        self._age()
        chance = (self.asked - self.ratio * self.taken - self.slack) / (self.asked + 1.0)
        held = chance > 0.0 and self.random() < chance
        self.asked += held
        return held

    def note_answer(self, *, refused: bool) -> None:
        """refused: because the server has too much to do; whatever else came of it, it was taken."""
        self._age()
        self.asked += 1.0
        self.taken += not refused

    def _age(self) -> None:
        now = self.clock()
        kept = 0.5 ** ((now - self._at) / self.half_life_s)
        self.asked, self.taken, self._at = self.asked * kept, self.taken * kept, now


def connect(
    target: str,
    *,
    tls: TlsSource | None = None,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    budget: RetryBudget | None = None,
    credential: str = "",
) -> grpc.aio.Channel:
    """A channel to every server behind `target`, round robin over those that are SERVING.

    target: "host:port" (each address the name resolves to is used), or several "ip:port" separated by
    commas; SettingsError otherwise. With `tls` servers must show a certificate for the host, or for the name
    before an "@": "features@10.0.0.1:20052,10.0.0.2:20052"; without it there is no TLS. max_message_bytes
    bounds the answers. credential: sent with each call, as `authorization: Bearer`. Connects lazily, and
    after a loss tries again ten times a second. Calls that reached no server are sent again by gRPC.
    """
    options = [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the server says what is too large
        ("grpc.keepalive_time_ms", 2_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        # While a ping of gRPC's own (bandwidth probing) has no answer, no keepalive ping goes out.
        ("grpc.http2.ping_timeout_ms", 2_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 3_000),  # how long one attempt may take, not a pause
        # No longer later on: in a rolling restart the next server drains once the one before serves.
        ("grpc.max_reconnect_backoff_ms", 100),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ]
    address, name = _address(target, secure=tls is not None)
    connections = Connections(lambda pem: open_channel(address, name, pem, options), tls)
    return _Channel(connections, budget or RetryBudget(), bearer(credential))


def bearer(credential: str) -> Sent:
    """The metadata of a key or token; none where it is empty."""
    return ((METADATA_KEY, f"Bearer {credential}"),) if credential else ()


def open_channel(
    address: str, name: str, pem: TlsPem | None, options: list[tuple[str, Any]]
) -> grpc.aio.Channel:
    """gRPC's own channel. name: what certificates must hold, "" = the host; pem: None = without TLS."""
    if pem is None:
        return grpc.aio.insecure_channel(address, options)
    named = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.aio.secure_channel(address, channel_credentials(pem), [*options, *named])


async def call(
    rpc: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, *, timeout_s: float, idempotent: bool = False
) -> R:
    """One call; raises our errors, as the server raised them.

    Its deadline is `timeout_s`, or what remains of the request being served where that is less.
    Where `idempotent`, what no server took up is tried again (at most 3 times) under the channel's retry
    budget.
    """
    if remaining_s(timeout_s) <= 0.0:
        raise DeadlinePassed("no time remains for this call")
    if not isinstance(rpc, _Unary):
        raise TypeError(f"rpc must belong to a channel of `connect`, got {rpc!r}")
    try:
        response: R = await rpc.attempt(request, timeout_s, MAX_ATTEMPTS if idempotent else 1)
        return response
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


def _address(target: str, *, secure: bool) -> tuple[str, str]:
    """gRPC's name for the target, several addresses as one ipv4: or ipv6: list; and the name before "@"."""
    name, at, places = target.rpartition("@") if not target.startswith("unix") else ("", "", target)
    if not places.strip() or (at and not name.strip()):
        raise SettingsError(f"a server to call must be {'name@' if at else ''}host:port, got {target!r}")
    if name and not secure:
        raise SettingsError(f"a server to call has a name before its address only with TLS, got {target!r}")
    if places.startswith(_NAMED_BY_GRPC):
        return places, name
    addresses = [part.strip() for part in places.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        # gRPC would call port 443 where there is none, and another one where it is too large.
        bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
        digits = port.isascii() and port.isdigit() and len(port) <= len(str(_LAST_PORT))
        if not host or bare or not digits or not 0 < int(port) <= _LAST_PORT:
            rule = f"must be {'name@' if at else ''}host:port, with a port from 1 to {_LAST_PORT}"
            rule += ", an IPv6 address in brackets" if bare else ""
            raise SettingsError(f"a server to call {rule}, got {target!r}")
    if len(addresses) == 1:
        return addresses[0], name
    try:
        versions = {ipaddress.ip_address(a.rpartition(":")[0].strip("[]")).version for a in addresses}
    except ValueError as error:
        raise SettingsError(f"several servers to call must be ip:port,ip:port, got {target!r}") from error
    if len(versions) > 1:
        raise SettingsError(f"several servers to call must be all IPv4 or all IPv6, got {target!r}")
    if secure and not name:
        raise SettingsError(f"several servers to call with TLS must be name@ip:port,ip:port, got {target!r}")
    return f"ipv{versions.pop()}:" + ",".join(addresses), name


def _metadata(sent: Sent, given: Any = None) -> list[tuple[str, str | bytes]]:
    """`sent` with every call, `given`, and the id of the request being served (or one of its own)."""
    metadata: list[tuple[str, str | bytes]] = [*sent, *(given or ())]
    if all(key != REQUEST_ID_KEY for key, _ in metadata):
        served = served_call()
        metadata.append((REQUEST_ID_KEY, served.request_id if served else uuid.uuid4().hex))
    return metadata


def _timeout(asked_s: float | None) -> float | None:
    """What remains of the request being served, at most `asked_s`; None = no bound."""
    allowed = remaining_s(float("inf") if asked_s is None else asked_s)
    return None if allowed == float("inf") else allowed


class _Rpc:
    """A method on whatever connection is the one of now."""

    def __init__(self, connections: Connections, made: Callable[[grpc.aio.Channel], Any]) -> None:
        self._connections = connections
        self._make = made
        self._on: Connection | None = None
        self._made: Any = None

    def begin(self) -> tuple[Any, Connection]:
        """gRPC's own method, and the connection on which a call of it has begun; end it there."""
        connection = self._connections.current()
        if connection is not self._on:
            self._made, self._on = self._make(connection.channel), connection
        connection.begin()
        return self._made, connection

    def start(self, request: Any, timeout: float | None, metadata: Any, options: Any) -> Any:
        """gRPC's own call."""
        rpc, connection = self.begin()
        try:
            made = rpc(request, timeout=_timeout(timeout), metadata=metadata, **options)
        except BaseException:
            connection.end()
            raise
        made.add_done_callback(connection.end)
        return made


class _Unary(grpc.aio.UnaryUnaryMultiCallable[Q, R]):
    """A method of a `_Channel`: passes deadline and request id on; repeats what found no server.

    Not an interceptor: in grpc.aio each intercepted call costs two more tasks, a tenth of the gateway's time.
    """

    def __init__(self, rpc: _Rpc, sent: Sent, budget: RetryBudget, throttle: Throttle) -> None:
        self._rpc = rpc
        self._sent = sent
        self._budget = budget
        self._throttle = throttle

    def __call__(
        self, request: Q, *, timeout: float | None = None, metadata: Any = None, **options: Any
    ) -> grpc.aio.UnaryUnaryCall[Q, R]:
        self._budget.note_call()
        made: grpc.aio.UnaryUnaryCall[Q, R] = self._rpc.start(
            request, timeout, _metadata(self._sent, metadata), options
        )
        return made

    async def attempt(self, request: Q, timeout_s: float, attempts: int) -> R:
        """Up to so many attempts within `timeout_s`. Raises AioRpcError; Overloaded where it is not sent."""
        if self._throttle.holds_back():
            raise Overloaded("the server refuses most calls now: this one was not sent")
        deadline = time.monotonic() + remaining_s(timeout_s)
        metadata = _metadata(self._sent)
        self._budget.note_call()
        for attempt in range(1, attempts + 1):
            rpc, connection = self._rpc.begin()
            try:
                response: R = await rpc(request, timeout=deadline - time.monotonic(), metadata=metadata)
                self._throttle.note_answer(refused=False)
                return response
            except grpc.aio.AioRpcError as error:
                self._throttle.note_answer(refused=isinstance(from_rpc_error(error), Overloaded))
                if attempt == attempts or error.code() not in _TRY_AGAIN:
                    raise
                # Full jitter, so that callers of a server that came back do not arrive together.
                pause_s = random.uniform(0.0, _FIRST_BACKOFF_S * 2 ** (attempt - 1))
                if deadline - time.monotonic() <= pause_s or not self._budget.take():
                    raise
            finally:
                connection.end()
            await asyncio.sleep(pause_s)
        raise AssertionError("unreachable: the last attempt returns or raises")


class _UnaryStream(grpc.aio.UnaryStreamMultiCallable[Q, R]):
    """A streaming method of a `_Channel`: passes deadline and request id on."""

    def __init__(self, rpc: _Rpc, sent: Sent) -> None:
        self._rpc = rpc
        self._sent = sent

    def __call__(
        self, request: Q, *, timeout: float | None = None, metadata: Any = None, **options: Any
    ) -> grpc.aio.UnaryStreamCall[Q, R]:
        made: grpc.aio.UnaryStreamCall[Q, R] = self._rpc.start(
            request, timeout, _metadata(self._sent, metadata), options
        )
        return made


class _Channel(grpc.aio.Channel):
    """gRPC's channel with our unary and server-streaming calls; the contract has no others."""

    def __init__(self, connections: Connections, budget: RetryBudget, sent: Sent) -> None:
        self._connections = connections
        self._budget = budget
        self._sent = sent
        # A method's own: a server that refuses lists may well take feedback.
        self._throttles: dict[str, Throttle] = defaultdict(Throttle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._connections.close(grace)

    @property
    def _channel(self) -> grpc.aio.Channel:
        return self._connections.current().channel

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def unary_unary(self, method: str, *codec: Any, **options: Any) -> Any:
        rpc = _Rpc(self._connections, lambda channel: channel.unary_unary(method, *codec, **options))
        return _Unary(rpc, self._sent, self._budget, self._throttles[method])

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return _UnaryStream(_Rpc(self._connections, lambda c: c.unary_stream(*method, **options)), self._sent)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return self._channel.stream_unary(*method, **options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return self._channel.stream_stream(*method, **options)
