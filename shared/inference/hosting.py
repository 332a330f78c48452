"""The models of all domains of one server, and the one worker thread that computes with them."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from prometheus_client.registry import Collector

from shared.artifacts import Artifact, Registry
from shared.domain import HeldModel
from shared.inference.batcher import MicroBatcher
from shared.inference.clients import FeatureItemFeed
from shared.inference.holder import HolderTimes, ModelHolder, Version
from shared.inference.metrics import ModelCollector, batch_sizes
from shared.inference.runtime import tensorflow
from shared.inference.settings import ModelServerSettings
from shared.rpc.server import Server
from shared.rpc.serving import served_call
from shared.rpc.waiting import Dependency, Wait
from shared.tls import source_of

V = TypeVar("V", bound=Version)
J = TypeVar("J")
R = TypeVar("R")

# Loading a model is busy Python for part of a second; a call that needs the interpreter meanwhile waits at
# most this long for each turn, instead of Python's 5 ms.
_SWITCH_INTERVAL_S = 0.0005
_SAY_EVERY_S = 60.0
_log = structlog.get_logger(part="models")


class ModelHost(Generic[V, J, R]):
    """Holds the models and runs jobs on them in micro-batches.

    load: makes a version of an artifact. run: does a batch of jobs, on the worker thread.
    Start it on the event loop that serves.
    """

    def __init__(
        self,
        settings: ModelServerSettings,
        load: Callable[[Artifact], V],
        run: Callable[[Sequence[J]], Sequence[R | Exception]],
        *,
        max_batch: int,
    ) -> None:
        self._settings = settings
        tls = source_of(settings.calling_tls)
        self._feed = FeatureItemFeed(settings.features_target, tls) if settings.features_target else None
        registry = Registry(settings.registry, trusted=settings.trusted_keys())
        times = HolderTimes(settings.registry_interval_s, settings.catalogue_wait_s)
        self._holders = {d: ModelHolder(d, registry, load, self._feed, times) for d in settings.domains}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._importing: asyncio.Task[object] | None = None
        self._saying: asyncio.Task[None] | None = None
        self._sizes = batch_sizes()
        self._batcher = MicroBatcher(
            run,
            self._thread,
            max_batch=max_batch,
            max_queued=settings.max_queued,
            observe=self._sizes.observe,
        )

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._holders)

    def get(self, domain: str, version: str = "") -> V:
        """See `ModelHolder.get`; the domain must be one of those served."""
        return self._holders[domain].get(version)

    def describe(self, domain: str) -> tuple[HeldModel, ...]:
        """The versions held, the champion first."""
        return tuple(version.describe() for version in self._holders[domain].held())

    def collectors(self) -> Sequence[Collector]:
        """For Prometheus."""
        held = ModelCollector(lambda: map(self.describe, self._holders), lambda: self._batcher.waiting)
        return (held, self._sizes)

    async def submit(self, job: J) -> R:
        """Runs the job in its turn; gives up at the deadline of the request being served."""
        call = served_call()
        return await self._batcher.submit(job, call.deadline if call else None)

    async def start(self) -> None:
        """Returns once each domain's champion of now is held, or refused, or there is none yet.

        Gives up waiting after `start_timeout_s`, without an error: a server without a model is alive, and
        its services say when they are ready.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # Imported meanwhile, so that the first model, which may be minutes away, need not wait for it.
        importing = asyncio.to_thread(tensorflow, intra_op_threads=self._settings.intra_op_threads)
        self._importing = asyncio.create_task(importing, name="import TensorFlow")
        self._batcher.start()
        for holder in self._holders.values():
            holder.start()
        self._saying = asyncio.create_task(self._say_what_is_missing(), name="say what is missing")
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                await asyncio.gather(*(holder.settled() for holder in self._holders.values()))
        except TimeoutError:
            waiting = [d for d, holder in self._holders.items() if not holder.held()]
            _log.warning("models_still_loading", domains=waiting, waited_s=self._settings.start_timeout_s)

    async def ready(self) -> None:
        """Returns once some domain has a model, and every other one its own, or for now none that is good.

        So a domain that waits for its first model does not keep the others from their callers.
        """
        holders = list(self._holders.values())
        await asyncio.gather(*(holder.settled() for holder in holders))
        waits = [asyncio.ensure_future(holder.ready.wait()) for holder in holders]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _say_what_is_missing(self) -> None:
        """Until every domain has a model. A server without one is alive, so it waits without a limit."""
        registry = Dependency.of(self._settings, "a first model", "registry", self._settings.registry)
        async with Wait(registry, math.inf, every_s=_SAY_EVERY_S).noted(self._without_model):
            await asyncio.gather(*(holder.ready.wait() for holder in self._holders.values()))

    def _without_model(self) -> str:
        domains = (repr(domain) for domain, holder in self._holders.items() if not holder.held())
        return f"none is loaded of domain {', '.join(domains)}"

    async def stop(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            await asyncio.gather(self._saying, return_exceptions=True)
        await self._batcher.stop()
        await asyncio.gather(*(holder.stop() for holder in self._holders.values()))
        if self._importing is not None:
            await asyncio.gather(
                self._importing, return_exceptions=True
            )  # a failure shows when a model is loaded
        self._thread.shutdown()
        if self._feed is not None:
            await self._feed.close()


@dataclass(frozen=True, slots=True)
class ModelComponent:
    """A service and the models it works with, as `shared.rpc.server` runs them.

    register: adds the servicer to a gRPC server; returns its full service name, in a list.
    """

    host: ModelHost[Any, Any, Any]
    register: Callable[[Server], Sequence[str]]

    def collectors(self) -> Sequence[Collector]:
        return self.host.collectors()

    async def start(self) -> None:
        await self.host.start()

    async def ready(self) -> None:
        await self.host.ready()

    async def stop(self) -> None:
        await self.host.stop()
