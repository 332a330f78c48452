"""What many choose now comes up in the lists of people whom nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warmstart.common.v1 import item_pb2

from shared.artifacts import Registry
from shared.errors import EmptyCatalogue
from shared.trends import Trends
from tests.artifacts import item_ids, publish_model
from tests.integration.gateway.cluster import Caller, cluster_of
from tests.model_servers import until
from tests.valkey import running_valkey

pytestmark = pytest.mark.asyncio(loop_scope="package")
_ITEMS = 30


def going_by_trends(model: Any) -> None:
    model.trends = Trends(np.full(model.num_items, 10.0, np.float32), prior=20.0)
    model.heads.omega.assign(np.full(model.heads.omega.shape, 3.0, np.float32))


async def test_what_many_choose_now_comes_first_for_a_stranger(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    ref = publish_model(registry, ids=item_ids(_ITEMS), prepare=going_by_trends)
    registry.promote("default", ref.version)
    with running_valkey() as store:
        async with cluster_of(store.url, registry.root) as cluster:
            caller = Caller(cluster)
            await caller.upsert(*(item_pb2.Item(item_id=i, title=i) for i in item_ids(_ITEMS)))

            async def listed() -> list[str]:
                answer = await caller.recommend("nobody", exploration_rate=0.0, page_size=_ITEMS)
                return [item.item_id for item in answer.items if item.source == "model"]

            async def ready() -> bool:
                try:
                    return len(await listed()) > _ITEMS // 2
                except EmptyCatalogue:
                    return False

            await until(ready)
            last = (await listed())[-1]
            for fan in range(40):
                await caller.like(last, user_id=f"fan-{fan}")

            async def first() -> bool:
                return (await listed())[0] == last

            await until(first)
