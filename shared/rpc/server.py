"""How every server lives: bind, start, serve, drain, stop.

bound      health answers NOT_SERVING, calls are refused UNAVAILABLE
started    component.start() returned: SERVING
SIGTERM    NOT_SERVING → `drain_s` (callers turn away; calls are still answered)
           → server.stop(`grace_s`) (streams end, calls in flight finish) → component.stop() (flush, close)
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client.registry import Collector, CollectorRegistry

from shared.auth.guard import Guard
from shared.auth.settings import DoorSettings, is_loopback
from shared.errors import SettingsError, Unavailable, WarmstartError
from shared.processes.listeners import listener_on
from shared.processes.scheduling import schedule
from shared.rpc import accepting
from shared.rpc.admission import Admission
from shared.rpc.credentials import KnownClients, server_credentials
from shared.rpc.health_service import HealthService
from shared.rpc.heap import settle_heap
from shared.rpc.interceptors import ServiceInterceptor
from shared.rpc.loop import EventLoop
from shared.rpc.streams import OpenStreams
from shared.settings import ServerSettings, load, unread
from shared.telemetry import logs
from shared.telemetry.exposition import exposed
from shared.telemetry.metrics import ServerMetrics, certificate_expiry, process_registry
from shared.tls import TlsSource, source_of, warn_of_risks

# What components register with; composition roots name it without importing gRPC.
Server = grpc.aio.Server
S = TypeVar("S", bound=ServerSettings)
_LOG = logs.logger("server")
# Past start_timeout_s, after which components give up by themselves and say what they waited for.
_START_SLACK_S = 5.0
# Requests on their way, times the calls in work: next to all come in the same moment as their call.
_READING = 4
# Far more than a burst: our own queue is the one that refuses.
MAX_PENDING = (512, 1024)


class Component(Protocol):
    """What a service is to its server."""

    def register(self, server: Server) -> Sequence[str]:
        """Adds the servicers; returns their full service names."""
        ...

    async def start(self) -> None:
        """Returns when ready to serve; raises within `start_timeout_s`, saying what it waited for."""
        ...

    async def stop(self) -> None:
        """Flushes and closes; also called after a start that failed half-way."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A component that has metrics of its own."""

    def collectors(self) -> Iterable[Collector]: ...


@runtime_checkable
class Gradual(Protocol):
    """A component that may be alive before its services can work: no model has been published yet.

    The server then says SERVING, its services only once `ready` returns; probe them by name.
    """

    async def ready(self) -> None:
        """Returns once the services can do their work."""
        ...


@dataclass(frozen=True, slots=True)
class _Bound:
    """A server that is bound and answers health checks."""

    name: str
    server: grpc.aio.Server
    health: HealthService
    admission: Admission
    services: tuple[str, ...]
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *self.services):
            self.health.set(service, status)

    @asynccontextmanager
    async def opened(self, component: Component) -> AsyncIterator[None]:
        """Lets calls in and says so; at the end says NOT_SERVING."""
        self.admission.ready = True
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        _LOG.info("serving", name=self.name, port=self.port)
        telling = asyncio.ensure_future(self._tell_when_ready(component))
        if not isinstance(component, Gradual):
            await telling
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self.health.stop()

    async def _tell_when_ready(self, component: Component) -> None:
        if isinstance(component, Gradual):
            await component.ready()
        self.say(health_pb2.HealthCheckResponse.SERVING)


async def serve(component: Component, settings: ServerSettings, *, name: str) -> None:
    """Serves until SIGTERM or SIGINT, then drains and stops; a second signal cuts the drain short.

    Raises what component.start() raises.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    async with _hosted(component, settings, name) as bound:
        if not await _started(component, settings, name, stop):
            return
        async with bound.opened(component):
            settle_heap()
            await stop.wait()
            _LOG.info("draining", name=name, drain_s=settings.drain_s)
        with suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), settings.drain_s)


@asynccontextmanager
async def running(
    component: Component, settings: ServerSettings, *, name: str = "server"
) -> AsyncIterator[str]:
    """For tests: a started server in this process, stopped at the end without a drain. Yields "host:port"."""
    async with _hosted(component, settings, name) as bound:
        await _started(component, settings, name, asyncio.Event())
        async with bound.opened(component):
            yield bound.address


def main(name: str, settings_class: type[S], build: Callable[[S], Component]) -> int:
    """The whole of a server's `__main__`: settings, logs, `build`, serve. Returns the exit code."""
    try:
        settings = load(settings_class)
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return 2
    secret = settings.log_secret.get_secret_value()
    logs.configure(name, level=settings.log_level, format=settings.log_format, secret=secret)

    for variable, nearest in unread(settings_class).items():
        _LOG.warning("a variable is no setting", name=name, variable=variable, nearest=nearest)
    refused = schedule(settings.scheduling)
    if refused:
        _LOG.warning("processors are shared as the system does by default", name=name, why=refused)

    async def run() -> None:
        await serve(build(settings), settings, name=name)  # built inside the loop: channels belong to it

    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(run())
    except WarmstartError as error:
        _LOG.error("stopped", name=name, error=str(error))
        return 1
    return 0


@asynccontextmanager
async def _hosted(component: Component, settings: ServerSettings, name: str) -> AsyncIterator[_Bound]:
    """Binds, answers NOT_SERVING; at the end stops the server within `grace_s`, then the component."""
    registry = process_registry()
    for collector in component.collectors() if isinstance(component, Measured) else ():
        registry.register(collector)
    admission = Admission(name, settings.max_concurrent_rpcs)
    metrics = ServerMetrics.create(registry)
    a_caller = settings.max_streams_a_caller if isinstance(settings, DoorSettings) else 0
    streams = OpenStreams(name, settings.max_streams, a_caller)
    known = KnownClients.of(name, settings.tls_client_names)
    try:
        tls = _tls(settings, registry)
        guard = _guard(settings, name, registry)
        interceptor = ServiceInterceptor(
            admission, metrics, streams, known, settings.max_message_bytes, guard
        )
        most_reading = _READING * settings.max_concurrent_rpcs
        server = accepting.server(interceptor, most_reading, _options(settings))
        with exposed(registry, settings.host, settings.metrics_port, tls) as metrics_port:
            bound = _bind(server, component, settings, admission, tls)
            bound.say(health_pb2.HealthCheckResponse.NOT_SERVING)
            await server.start()
            how = "none" if tls is None else "mutual" if settings.tls_client_ca else "server"
            _LOG.info("listening", name=name, port=bound.port, metrics_port=metrics_port, tls=how)
            try:
                async with guard.following() if guard else nullcontext():
                    yield bound
            finally:
                interceptor.end_streams()
                bound.health.end()
                await server.stop(settings.grace_s)
    finally:
        await component.stop()
        _LOG.info("stopped", name=name)


def _guard(settings: ServerSettings, name: str, registry: CollectorRegistry) -> Guard | None:
    """Of a door whose callers say who they are; None for others. Raises SettingsError."""
    if not isinstance(settings, DoorSettings):
        return None
    guard = Guard.of(settings)
    if guard is None and not is_loopback(settings.host):
        _LOG.warning("every call is taken: auth is off", name=name, host=settings.host)
    for collector in guard.metrics.collectors if guard else ():
        registry.register(collector)
    return guard


def _tls(settings: ServerSettings, registry: CollectorRegistry) -> TlsSource | None:
    """What callers are met with. Raises SettingsError where the files are not good."""
    source = source_of(settings.serving_tls)
    if source is not None:
        warn_of_risks(source.files, source.pem)
        registry.register(certificate_expiry(lambda: source.pem.expires))
    return source


def _bind(
    server: grpc.aio.Server,
    component: Component,
    settings: ServerSettings,
    admission: Admission,
    tls: TlsSource | None,
) -> _Bound:
    services = tuple(component.register(server))
    servicer = HealthService()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if settings.reflection:
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        _try_to_bind(settings.host, settings.port)
        address = f"{host}:{settings.port}"
        port = (
            server.add_secure_port(address, server_credentials(tls))
            if tls
            else server.add_insecure_port(address)
        )
    except (OSError, RuntimeError) as error:
        prefix = str(settings.model_config.get("env_prefix", ""))
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        holder = listener_on(settings.port)
        cause += f" by {holder}" if holder else ""
        raise SettingsError(
            f"{admission.name} cannot listen on {host}:{settings.port}: {cause}"
            f" (set {prefix}HOST and {prefix}PORT)"
        ) from error
    return _Bound(admission.name, server, servicer, admission, services, host, port)


def _try_to_bind(host: str, port: int) -> None:
    """Raises OSError where the address cannot be had: gRPC itself would not say why."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        # Up to twice the limit is read, so that the interceptor can say which limit was broken.
        ("grpc.max_receive_message_length", 2 * settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a partner
        # Calls that wait to be taken up: beyond the first number more and more of them are refused, beyond
        # the second all, with CANCELLED, which costs next to nothing.
        ("grpc.server.max_pending_requests", MAX_PENDING[0]),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING[1]),
        # Of one connection: a backend with more calls in flight is better served by several.
        ("grpc.max_concurrent_streams", 1024),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ]


async def _started(component: Component, settings: ServerSettings, name: str, stop: asyncio.Event) -> bool:
    """True once the component is ready, False where `stop` came first."""
    start = asyncio.ensure_future(component.start())
    stopped = asyncio.ensure_future(stop.wait())
    limit_s = settings.start_timeout_s + _START_SLACK_S
    try:
        done, _ = await asyncio.wait((start, stopped), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise Unavailable(f"{name} was not ready within {limit_s:g} s")
        if start in done:
            start.result()
        return start in done
    finally:
        for task in (start, stopped):
            task.cancel()
        await asyncio.gather(start, stopped, return_exceptions=True)
