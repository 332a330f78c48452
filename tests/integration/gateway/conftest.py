"""One cluster for all tests of this folder: loading its models takes seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from warmstart.common.v1 import item_pb2

from shared.artifacts import Registry
from tests.artifacts import item_ids, publish_model
from tests.integration.gateway.cluster import Caller, Cluster, cluster_of
from tests.model_servers import until
from tests.valkey import RunningValkey, running_valkey

ITEMS = 60


@pytest.fixture(scope="package")
def store() -> Iterator[RunningValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="package")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    ref = publish_model(registry, ids=item_ids(ITEMS))
    registry.promote("default", ref.version)
    return registry


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster(store: RunningValkey, registry: Registry) -> AsyncIterator[Cluster]:
    """Running, with a catalogue and a model that both know it."""
    async with cluster_of(store.url, registry.root) as cluster:
        caller = Caller(cluster)
        genres = ("drama", "comedy", "war")
        await caller.upsert(
            *(
                item_pb2.Item(
                    item_id=item_id,
                    title=f"Title of {item_id}",
                    categories=[genres[n % 3]],
                    attributes={"decade": f"{1950 + 10 * (n % 6)}"},
                    created_ms=1 + n,
                )
                for n, item_id in enumerate(item_ids(ITEMS))
            )
        )

        async def ready() -> bool:
            """The gateway mirrors all items and scoring ranks them all: each follows the stream by itself."""
            assert cluster.gateway is not None
            mirrored = len(cluster.gateway.rooms.catalogue.of("default")) == ITEMS
            return mirrored and len((await caller.recommend("nobody", page_size=ITEMS)).items) == ITEMS

        await until(ready)
        yield cluster


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def caller(cluster: Cluster) -> Caller:
    return Caller(cluster)
