"""Composition root of the feature service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.registry import Collector
from valkey.exceptions import ResponseError

from services.features.background import Background
from services.features.domain import DomainFeatures, Tools
from services.features.servicer import FeatureServicer
from services.features.settings import FeatureSettings
from services.features.store.address import StoreAddress, safe_url
from services.features.store.connection import Acknowledgement, Store
from services.features.store.durability import Durability, check_durability
from services.features.store.erased_bytes import erased_bytes_gauge
from services.features.store.retention import retention_counter
from services.features.store.watermark import trimmed_counter
from shared.content import TextEncoder
from shared.errors import SettingsError, Unavailable
from shared.rpc.server import Server
from shared.rpc.waiting import Dependency, Wait
from shared.telemetry.logs import logger
from shared.tls import source_of

_LOG = logger("features")
_RETRY_START_S = 0.25


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def build(
    settings: FeatureSettings, *, clock: Callable[[], int] = now_ms, encoder: TextEncoder | None = None
) -> FeatureComponent:
    """The service as its server runs it. encoder: one that is loaded already may be shared."""
    return FeatureComponent(settings, clock, encoder or TextEncoder(threads=settings.encoder_threads))


class FeatureComponent:
    """Lives from `start` to `stop`; see `shared.rpc.server.Component`."""

    def __init__(self, settings: FeatureSettings, clock: Callable[[], int], encoder: TextEncoder) -> None:
        self._settings, self._clock, self._encoder = settings, clock, encoder
        self._domains: dict[str, DomainFeatures] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._trimmed, self._expired = trimmed_counter(), retention_counter()
        self._erased_age = erased_bytes_gauge()
        self._store: Store | None = None
        self._upkeep = Background()
        self._rewriting = Background()

    def register(self, server: Server) -> Sequence[str]:
        return FeatureServicer(self._domains, self._clock).register(server)

    def collectors(self) -> Iterable[Collector]:
        return [self._trimmed, self._expired, self._erased_age]

    async def start(self) -> None:
        """Waits for the store, checks it, opens every domain.

        Raises Unavailable after `start_timeout_s`, SettingsError at once where waiting cannot help.
        """
        source_of(self._settings.store_tls)  # says what is wrong with its files; the client would not
        store = self._store = Store(_address(self._settings), _acknowledgement(self._settings))
        # Load the encoder's weights while the store comes up.
        warm = asyncio.get_running_loop().run_in_executor(self._threads, self._encoder.encode, ["warm"])
        address = safe_url(self._settings.store_url)
        wait = Wait(
            Dependency.of(self._settings, "the store", "store_url", address), self._settings.start_timeout_s
        )
        await self._until_there(self._check, wait)
        tools = Tools(
            store,
            self._encoder,
            self._threads,
            self._clock,
            self._trimmed,
            self._expired,
            self._erased_age,
        )
        for name in self._settings.domains:

            async def open_one(name: str = name) -> None:
                self._domains[name] = await DomainFeatures.open(name, self._settings, tools)

            await self._until_there(open_one, wait)
        await warm
        self._upkeep.start(self._again_and_again(DomainFeatures.maintain))
        # Apart, as it packs logs first, minutes where they are large.
        self._rewriting.start(self._again_and_again(DomainFeatures.rewrite_files))

    async def stop(self) -> None:
        await self._upkeep.close()
        await self._rewriting.close()
        for domain in self._domains.values():
            await domain.close()
        if self._store is not None:
            await self._store.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _check(self) -> None:
        store, settings = self._store, self._settings
        if store is None:
            raise RuntimeError("the component must be started first")
        try:
            await store.on_each_primary("PING")
        except ResponseError as error:
            raise SettingsError(f"store at {safe_url(settings.store_url)} refuses us: {error}") from error
        if settings.verify_durability:
            await check_durability(store, settings.durability, replicas=settings.replicas)

    async def _until_there(self, step: Callable[[], Awaitable[None]], wait: Wait) -> None:
        while True:
            try:
                await step()
            except Unavailable as error:
                if wait.is_over:
                    raise wait.given_up(str(error)) from error
                wait.note(str(error))
                await asyncio.sleep(_RETRY_START_S)
            else:
                wait.found()
                return

    async def _again_and_again(self, work: Callable[[DomainFeatures], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._settings.repair_every_s)
            for domain in self._domains.values():
                try:
                    await work(domain)
                except Unavailable as error:
                    _LOG.info("upkeep_put_off", domain=domain.name, reason=str(error))
                except Exception:
                    _LOG.exception("upkeep_failed", domain=domain.name)


def _address(settings: FeatureSettings) -> StoreAddress:
    return StoreAddress(
        settings.store_url,
        cluster=settings.store_cluster,
        timeout_s=settings.store_timeout_s,
        connect_timeout_s=settings.store_connect_timeout_s,
        max_connections=settings.store_connections,
        tls=settings.store_tls,
    )


def _acknowledgement(settings: FeatureSettings) -> Acknowledgement:
    if settings.durability is not Durability.REPLICATED:
        return Acknowledgement()
    return Acknowledgement(settings.replicas, int(settings.replica_timeout_s * 1000))
