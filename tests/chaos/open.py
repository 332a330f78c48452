"""The world that scenarios happen in: models published, servers started, a catalogue stored, all well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from warmstart.common.v1 import item_pb2

from shared.errors import WarmstartError
from tests.artifacts import item_ids
from tests.chaos.backend import open_backend
from tests.chaos.servers import SERVICES, running_servers
from tests.chaos.stock import ITEMS, publish
from tests.chaos.world import Effort, World
from tests.model_servers import until

_WELL_IN_A_ROW = 10


@asynccontextmanager
async def open_world(
    directory: Path, effort: Effort, two: Collection[str] = SERVICES
) -> AsyncIterator[World]:
    """two: which services have two replicas; a scenario needs two of the service under test."""
    registry, bad = await asyncio.to_thread(publish, directory)
    async with (
        running_servers(directory, registry.root, two=two, nice=effort.nice) as servers,
        open_backend(servers, item_ids(ITEMS)) as backend,
    ):
        await backend.catalogue(
            [
                item_pb2.Item(item_id=i, title=f"Title of {i}", categories=["drama" if n % 2 else "war"])
                for n, i in enumerate(item_ids(ITEMS))
            ]
        )

        async def well() -> bool:
            """Every replica has followed the catalogue: none of many lists is degraded."""
            try:
                lists = [await backend.list() for _ in range(_WELL_IN_A_ROW)]
                await backend.read()
            except WarmstartError:
                return False
            return all(one.rung == "RUNG_ADAPTED" and not one.degraded and not one.broken for one in lists)

        await until(well)
        yield World(servers, backend, registry, bad, effort)
