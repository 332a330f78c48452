"""Each service is taken away while lists are asked for; each time the list names its rung, and recovers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from warmstart.common.v1 import event_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from shared.errors import Unavailable
from tests.integration.gateway.cluster import Caller, Cluster
from tests.integration.gateway.conftest import ITEMS
from tests.model_servers import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


def someone() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def without(cluster: Cluster, caller: Caller, name: str) -> AsyncIterator[None]:
    """The cluster without one server; at the end it is back, and lists are adapted again."""
    await cluster.stop(name)
    try:
        yield
    finally:
        await cluster.start(name)

    async def adapted() -> bool:
        answer = await caller.recommend(someone())
        return answer.rung == pb.RUNG_ADAPTED and not answer.degradations

    assert await until(adapted) < 5.0


async def liked_something(caller: Caller) -> str:
    user_id = someone()
    for item_id in ("item-0003", "item-0011"):
        await caller.like(item_id, user_id=user_id)
    return user_id


async def lists_keep_coming(caller: Caller, user_id: str, rung: int, stage: str, calls: int = 20) -> None:
    for _ in range(calls):
        answer = await caller.recommend(user_id)
        assert len(answer.items) == 10
        assert pb.Rung.Name(answer.rung) == pb.Rung.Name(pb.Rung.ValueType(rung))
        assert stage in {d.stage for d in answer.degradations}
        assert not {"item-0003", "item-0011"} & {i.item_id for i in answer.items}


async def test_without_adaptation_likeness_to_recent_items_ranks(cluster: Cluster, caller: Caller) -> None:
    user_id = await liked_something(caller)
    async with without(cluster, caller, "adaptation"):
        await lists_keep_coming(caller, user_id, pb.RUNG_RECENT_ITEMS, "adaptation")
        answer = await caller.recommend(someone())
        assert answer.rung == pb.RUNG_TRENDING  # nothing liked yet, nothing to be like


async def test_without_scoring_the_last_good_list_comes_until_feedback(
    cluster: Cluster, caller: Caller
) -> None:
    user_id = await liked_something(caller)
    good = await caller.recommend(user_id, exploration_rate=0.0, diversity=0.0)
    async with without(cluster, caller, "scoring"):
        await lists_keep_coming(caller, user_id, pb.RUNG_LAST_GOOD_LIST, "scoring")
        answer = await caller.recommend(user_id, diversity=0.0)
        before = [i.item_id for i in good.items if i.source == "model"]
        assert {i.source for i in answer.items} == {"last_good_list"}
        assert [i.item_id for i in answer.items if i.item_id in before] == before
        await caller.like(answer.items[0].item_id, user_id=user_id)
        assert (await caller.recommend(user_id)).rung == pb.RUNG_TRENDING
        with pytest.raises(Exception, match=r"scoring is away|onnect"):
            await caller.similar("item-0003")


async def test_without_features_what_was_trending_comes(cluster: Cluster, caller: Caller) -> None:
    user_id = await liked_something(caller)
    async with without(cluster, caller, "features"):
        for _ in range(20):
            answer = await caller.recommend(user_id)
            assert len(answer.items) == 10
            assert answer.rung == pb.RUNG_TRENDING
            assert "features" in {d.stage for d in answer.degradations}
        # With events of its own a request is still adapted.
        like = event_pb2.Event(item_id="item-0005", action=event_pb2.ACTION_LIKE)
        answer = await caller.recommend(user_id, events=[like])
        assert (answer.rung, answer.shots_used) == (pb.RUNG_ADAPTED, 1)
        impressions = answer.list_id

    async def logged() -> bool:
        return len(await caller.logged(impressions)) == 10

    await until(logged)  # they waited for features to come back


async def test_without_anything_lists_still_come(cluster: Cluster, caller: Caller) -> None:
    await liked_something(caller)

    async def trending() -> bool:
        return cluster.gateway is not None and len(cluster.gateway.rooms.trending.top("default")) > 0

    await until(trending)
    async with (
        without(cluster, caller, "scoring"),
        without_quietly(cluster, "adaptation"),
        without_quietly(cluster, "features"),
    ):
        answer = await caller.recommend(someone(), page_size=ITEMS)
        assert len(answer.items) == ITEMS
        assert answer.rung == pb.RUNG_TRENDING
        # Not all were chosen by anybody: of the others nothing else is said.
        said = {(i.source, i.reason) for i in answer.items}
        assert said == {("trending", "Popular now"), ("catalogue", "From the catalogue")}
        sources = [i.source for i in answer.items]
        assert sources == sorted(sources, reverse=True)


@asynccontextmanager
async def without_quietly(cluster: Cluster, name: str) -> AsyncIterator[None]:
    await cluster.stop(name)
    try:
        yield
    finally:
        await cluster.start(name)


async def test_the_store_going_away_and_coming_back_costs_no_list(caller: Caller, store: object) -> None:
    from tests.valkey import RunningValkey

    assert isinstance(store, RunningValkey)
    user_id = await liked_something(caller)
    await asyncio.to_thread(store.kill)
    try:
        for _ in range(5):
            assert len((await caller.recommend(user_id)).items) == 10
    finally:
        await asyncio.to_thread(store.start)

    async def adapted() -> bool:
        return (await caller.recommend(user_id)).shots_used == 2

    await until(adapted)


async def test_a_service_that_hangs_costs_its_timeout_only_now_and_then(
    cluster: Cluster, caller: Caller
) -> None:
    async def again_with(patience_s: float) -> None:
        await cluster.stop("gateway")
        cluster.patience_s = patience_s
        await cluster.start("gateway")
        await until(adapted)

    async def adapted() -> bool:
        try:
            return (await caller.recommend(user_id)).rung == pb.RUNG_ADAPTED
        except Unavailable:  # the gateway was away
            return False

    user_id, patience_s = await liked_something(caller), cluster.patience_s
    await again_with(0.5)
    hung = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    await cluster.stop("adaptation")
    port = int(cluster.target("adaptation").rpartition(":")[2])
    hung.close()
    # Accepts connections and never says a word.
    hung = await asyncio.start_server(_never_answer, "127.0.0.1", port)
    try:
        started = time.monotonic()
        for _ in range(30):
            assert (await caller.recommend(user_id)).rung == pb.RUNG_RECENT_ITEMS
        # 30 timeouts of half a second would be 15 s.
        assert time.monotonic() - started < 5.0
    finally:
        hung.close()
        await cluster.start("adaptation")
        await again_with(patience_s)


async def _never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(1024):
            pass
    finally:
        writer.close()
