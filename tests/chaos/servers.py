"""The servers as processes of their own, on loopback ports that they keep over restarts.

They run as in production, with the same drain and the same channels; nothing of them is in this process. A
process that is killed stays dead until `start`: a scenario says itself when a supervisor would act.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from deploy.local.valkey import LocalValkey
from shared.processes import leash
from shared.rpc.health import wait_until_serving
from tests.chaos.earlier import Earlier
from tests.cluster import clean_environment
from tests.ports import free_port

SERVICES = ("features", "adaptation", "scoring", "gateway")
STORE = "valkey"
# The machine may be busy, and a model server imports TensorFlow.
START_LIMIT_S = 180.0
_END_LIMIT_S = 30.0
_POLL_S = 0.02
# Callers have machines of their own; here they share one with the servers, and go first.
NICE = 5
# Among the servers, where it matters that each had a machine of its own.
_NICE_BEHIND, _NICE_OF_MODELS = 7, 15


@dataclass(slots=True, eq=False)
class Server:
    """One process and how to start it. environment: beside the caller's own without its WARMSTART_*; nice: as
    in nice(2), more than the caller; earlier: the version to start, None = this one."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    target: str
    log: Path
    nice: int = NICE
    process: subprocess.Popen[bytes] | None = field(default=None)
    earlier: Earlier | None = field(default=None)

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} has not been started"
        return self.process.pid

    def start(self) -> None:
        assert self.process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            # On a leash: killed with the one that runs the scenario, however that ends.
            self.process = subprocess.Popen(
                [sys.executable, str(leash.__file__), *self.command],
                env=clean_environment()
                | dict(self.environment)
                | (self.earlier.environment if self.earlier else {}),
                cwd=self.earlier.home if self.earlier else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Python ignores SIGXFSZ, and so shall what it starts: a file that may not grow is an error of
                # the write, as on a full disk, and not the end of the process.
                restore_signals=False,
            )
        psutil.Process(self.pid).nice(psutil.Process().nice() + self.nice)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def end(self, number: signal.Signals) -> int:
        """Sends the signal and waits for the process to be gone; its exit code."""
        process = self.process
        assert process is not None, f"{self.name} does not run"
        process.send_signal(number)
        try:
            async with asyncio.timeout(_END_LIMIT_S):
                while (code := process.poll()) is None:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise AssertionError(
                f"{self.name} did not end within {_END_LIMIT_S:g} s of {number.name}"
            ) from None
        self.process = None
        return code


class Servers:
    """All of them. registry: of published models; two: which services have two replicas, the others one;
    nice: see `Server`."""

    def __init__(
        self, directory: Path, registry: Path, *, two: Collection[str] = SERVICES, nice: int = NICE
    ) -> None:
        self.directory = directory
        store = LocalValkey(directory / STORE, port=free_port())
        ports = {name: [free_port() for _ in range(2 if name in two else 1)] for name in SERVICES}
        self.targets = {name: ",".join(f"127.0.0.1:{port}" for port in ports[name]) for name in SERVICES}
        self.all: dict[str, Server] = {
            STORE: Server(
                STORE, store.command(), {}, f"127.0.0.1:{store.port}", directory / "valkey.log", nice
            )
        }
        common = self._environment(store.url, registry)
        for service in SERVICES:
            for number, port in enumerate(ports[service]):
                name = f"{service}-{number}"
                self.all[name] = Server(
                    name,
                    [sys.executable, "-m", f"services.{service}"],
                    {**common, f"WARMSTART_{service.upper()}_PORT": str(port)},
                    f"127.0.0.1:{port}",
                    directory / f"{name}.log",
                    nice,
                )

    def __getitem__(self, name: str) -> Server:
        return self.all[name]

    def of(self, service: str) -> list[Server]:
        """The replicas of a service; the store alone."""
        return [s for s in self.all.values() if s.name.partition("-")[0] == service]

    def give_way(self) -> None:
        """From now on gateways go before what is behind them, and models last, as it is where nobody takes
        anybody's processor away."""
        for service in SERVICES:
            if service != "gateway":
                nice = _NICE_BEHIND if service == "features" else _NICE_OF_MODELS
                for server in self.of(service):
                    psutil.Process(server.pid).nice(nice)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Meanwhile callers, which are this process, have the last processor for themselves and the servers
        all others: what callers compute for each call that is refused would else be taken from the servers.
        On a machine with one processor nothing is different."""
        every = sorted(os.sched_getaffinity(0))
        pids = [server.pid for server in self.all.values()]
        if len(every) > 1:
            _run_on({os.getpid(): every[-1:]} | dict.fromkeys(pids, every[:-1]))
        try:
            yield
        finally:
            _run_on(dict.fromkeys((os.getpid(), *pids), every))

    async def start(self, *names: str) -> None:
        """Starts them and returns once all of them serve."""
        for name in names:
            self[name].start()
        await asyncio.gather(*(self.serving(name) for name in names))

    async def kill(self, *names: str) -> None:
        """As a crash does, all at once; returns when they are gone."""
        await asyncio.gather(*(self[name].end(signal.SIGKILL) for name in names))

    async def stop(self, *names: str) -> None:
        """As a deploy does. AssertionError where one ends with another code than 0."""
        codes = await asyncio.gather(*(self[name].end(signal.SIGTERM) for name in names))
        assert not any(codes), f"exit codes {dict(zip(names, codes, strict=True))}"

    async def serving(self, name: str) -> None:
        """Returns once it answers. AssertionError where it ends instead."""
        server = self[name]
        waits = asyncio.ensure_future(_store_answers(server) if name == STORE else _serves(server))
        try:
            while not waits.done():
                assert server.process is not None
                assert server.process.poll() is None, f"{name} ended: {server.log.read_text()[-2000:]}"
                await asyncio.wait([waits], timeout=_POLL_S)
            await waits
        finally:
            waits.cancel()

    def _environment(self, store_url: str, registry: Path) -> dict[str, str]:
        targets = {
            f"WARMSTART_{caller.upper()}_{called.upper()}_TARGET": self.targets[called]
            for caller, called in (
                ("adaptation", "features"),
                ("scoring", "features"),
                ("gateway", "features"),
                ("gateway", "adaptation"),
                ("gateway", "scoring"),
            )
        }
        return {
            **targets,
            "WARMSTART_FEATURES_STORE_URL": store_url,
            "WARMSTART_ADAPTATION_REGISTRY": str(registry),
            "WARMSTART_SCORING_REGISTRY": str(registry),
            "WARMSTART_GATEWAY_TOKEN_SECRET": "the same on all replicas",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }


@asynccontextmanager
async def running_servers(
    directory: Path, registry: Path, *, two: Collection[str] = SERVICES, nice: int = NICE
) -> AsyncIterator[Servers]:
    """Started in the order in which they need each other; all gone at the end."""
    servers = Servers(directory, registry, two=two, nice=nice)
    try:
        await servers.start(STORE)
        await servers.start(*(s.name for s in servers.of("features")))
        await servers.start(*(s.name for service in SERVICES[1:3] for s in servers.of(service)))
        await servers.start(*(s.name for s in servers.of("gateway")))
        yield servers
    finally:
        running = [s for s in servers.all.values() if s.process is not None]
        for server in running:
            server.send(signal.SIGCONT)  # a paused process would not be killed before it goes on
        await servers.kill(*(s.name for s in running))


def _run_on(processors: Mapping[int, Sequence[int]]) -> None:
    """pid → where all its threads may run."""
    for pid, allowed in processors.items():
        for thread in psutil.Process(pid).threads():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(thread.id, allowed)


async def _serves(server: Server) -> None:
    await wait_until_serving(server.target, START_LIMIT_S)


async def _store_answers(server: Server) -> None:
    host, _, port = server.target.partition(":")
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            client = Valkey(host=host, port=int(port))
            try:
                await client.ping()
                return
            except (ValkeyError, OSError):
                await asyncio.sleep(_POLL_S)
            finally:
                await client.aclose()
