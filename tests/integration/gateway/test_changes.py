"""What changes under the gateway while it serves: the model, the gateway itself, many callers at once."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from shared.artifacts import Registry
from tests.artifacts import item_ids, publish_model
from tests.integration.gateway.cluster import Caller, Cluster
from tests.integration.gateway.conftest import ITEMS
from tests.model_servers import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


def someone() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


async def test_a_new_champion_is_taken_up_without_one_degraded_list(
    cluster: Cluster, caller: Caller, registry: Registry
) -> None:
    ref = await asyncio.to_thread(publish_model, registry, ids=item_ids(ITEMS), seed=1)
    user_id = someone()
    await caller.like("item-0004", user_id=user_id)
    versions: list[str] = []

    async def taken_up() -> bool:
        answer = await caller.recommend(user_id)
        assert answer.rung == pb.RUNG_ADAPTED, answer.degradations
        assert not answer.degradations
        assert answer.shots_used == 1
        versions.append(answer.model.version)
        return answer.model.version == ref.version

    assert not await taken_up()
    registry.promote("default", ref.version)
    await until(taken_up, 20.0)
    # Once up, it stays: no list goes back to the version before.
    assert versions[versions.index(ref.version) :] == [ref.version]
    for _ in range(20):
        assert await taken_up()


async def test_a_restart_loses_no_impression_and_page_tokens_outlive_it(
    cluster: Cluster, caller: Caller
) -> None:
    user_id = someone()
    first = await caller.recommend(user_id)
    await cluster.stop("gateway")
    assert len(await caller.logged(first.list_id)) == 10
    await cluster.start("gateway")

    async def back() -> bool:
        try:
            await caller.recommend(user_id)
        except Exception:
            return False
        return True

    await until(back)
    second = await caller.recommend(user_id, page_token=first.next_page_token)
    assert second.list_id == first.list_id
    assert not {i.item_id for i in first.items} & {i.item_id for i in second.items}


async def test_many_callers_at_once_all_get_their_own_adapted_list(caller: Caller) -> None:
    async def one(liked: str) -> None:
        user_id = someone()
        await caller.like(liked, user_id=user_id)
        answer = await caller.recommend(user_id)
        assert (answer.rung, answer.shots_used) == (pb.RUNG_ADAPTED, 1)
        assert liked not in [item.item_id for item in answer.items]

    await asyncio.gather(*(one(item_id) for item_id in item_ids(48)))
