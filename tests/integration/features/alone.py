"""A domain of the feature service without a server around it, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from services.features.domain import DomainFeatures, Tools
from services.features.settings import FeatureSettings
from services.features.store.address import StoreAddress
from services.features.store.connection import Acknowledgement, Store
from services.features.store.erased_bytes import erased_bytes_gauge
from services.features.store.retention import retention_counter
from services.features.store.watermark import trimmed_counter
from shared.errors import Unavailable
from tests.integration.features.client import until
from tests.integration.features.conftest import shared_encoder
from tests.valkey import RunningValkey


@asynccontextmanager
async def a_domain(
    valkey: RunningValkey, name: str, clock: Callable[[], int], **settings: Any
) -> AsyncIterator[DomainFeatures]:
    """Nothing runs but what the test calls, and what counts trends. clock: milliseconds since the epoch."""
    cluster = valkey.config.cluster
    loaded = FeatureSettings(**{"store_url": valkey.url, "shards": 8, **settings})
    store = Store(StoreAddress(valkey.url, cluster=cluster), Acknowledgement())
    threads = ThreadPoolExecutor(1)
    counts = (trimmed_counter(), retention_counter(), erased_bytes_gauge())
    domain = await DomainFeatures.open(name, loaded, Tools(store, shared_encoder(), threads, clock, *counts))
    try:
        yield domain
    finally:
        await domain.close()
        await store.close()
        threads.shutdown()


async def rewritten(domain: DomainFeatures, *, now_ms: int) -> None:
    """Returns once the store's files hold no erased bytes: one step begins that, a later one finds it ended.
    One that finds the store away is put off, as the server does."""

    async def done() -> bool:
        try:
            return await domain.erased_bytes.rewrite_if_due(now_ms=now_ms)
        except Unavailable:
            return False

    await until(done, says="the store's files were written anew")
