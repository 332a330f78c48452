"""Lists over gRPC, from the real cluster."""

from __future__ import annotations

import uuid

import pytest
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from tests.integration.gateway.cluster import Caller
from tests.model_servers import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


def someone() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


async def test_a_stranger_gets_an_adapted_list(caller: Caller) -> None:
    answer = await caller.recommend(someone())
    assert len(answer.items) == 10
    assert answer.rung == pb.RUNG_ADAPTED
    assert list(answer.degradations) == []
    assert answer.model.version
    assert all(0.0 < item.propensity <= 1.0 for item in answer.items)


async def test_feedback_shows_in_the_very_next_list(caller: Caller) -> None:
    user_id = someone()
    for round_number in range(1, 11):
        answer = await caller.recommend(user_id, exploration_rate=0.0)
        assert answer.shots_used == round_number - 1
        liked = answer.items[0].item_id
        await caller.like(liked, user_id=user_id)
        again = await caller.recommend(user_id, exploration_rate=0.0)
        assert again.shots_used == round_number
        assert liked not in [item.item_id for item in again.items]


async def test_impressions_come_out_of_the_log_with_their_propensities(caller: Caller) -> None:
    answer = await caller.recommend(someone(), exploration_rate=0.5, experiment_key="arm-b")

    async def logged() -> bool:
        return len(await caller.logged(answer.list_id)) == 10

    await until(logged)
    for item, event in zip(answer.items, await caller.logged(answer.list_id), strict=True):
        assert event.item_id == item.item_id
        assert event.event_id == f"{answer.list_id}:{item.position}"
        assert event.exposure.propensity == item.propensity
        assert event.exposure.source == item.source
        assert event.exposure.model_version == answer.model.version
        assert event.exposure.experiment_key == "arm-b"
