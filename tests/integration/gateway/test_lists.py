"""Lists over gRPC, from the real cluster."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from warmstart.common.v1 import event_pb2, item_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from shared.errors import EmptyCatalogue, InvalidInput, NotFound
from tests.artifacts import item_ids
from tests.integration.gateway.cluster import Caller
from tests.integration.gateway.conftest import ITEMS
from tests.model_servers import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


def someone() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


def ids(answer: pb.RecommendResponse) -> list[str]:
    return [item.item_id for item in answer.items]


async def pages(caller: Caller, **fields: Any) -> list[pb.RecommendResponse]:
    answers = [await caller.recommend(**fields)]
    while answers[-1].next_page_token:
        answers.append(await caller.recommend(**fields, page_token=answers[-1].next_page_token))
    return answers


async def test_a_stranger_gets_an_adapted_list(caller: Caller) -> None:
    answer = await caller.recommend(someone())
    assert len(answer.items) == 10
    assert answer.rung == pb.RUNG_ADAPTED
    assert list(answer.degradations) == []
    assert answer.model.version
    assert all(0.0 < item.propensity <= 1.0 for item in answer.items)
    assert all(set(item.task_scores) and item.reason for item in answer.items if item.source == "model")


async def test_feedback_shows_in_the_very_next_list(caller: Caller) -> None:
    user_id = someone()
    for round_number in range(1, 11):
        answer = await caller.recommend(user_id, exploration_rate=0.0)
        assert answer.shots_used == round_number - 1
        liked = answer.items[0].item_id
        await caller.like(liked, user_id=user_id)
        again = await caller.recommend(user_id, exploration_rate=0.0)
        assert again.shots_used == round_number
        assert liked not in ids(again)


async def test_pages_repeat_nothing_and_end_with_the_catalogue(caller: Caller) -> None:
    user_id = someone()
    await caller.like("item-0007", user_id=user_id)
    answers = await pages(caller, user_id=user_id, page_size=13, exploration_rate=0.3)
    shown = [i for answer in answers for i in ids(answer)]
    assert sorted(shown) == sorted(set(item_ids(ITEMS)) - {"item-0007"})
    assert [i.position for answer in answers for i in answer.items] == list(range(ITEMS - 1))
    assert len({answer.list_id for answer in answers}) == 1


async def test_a_list_can_go_by_stars(caller: Caller) -> None:
    """What counts is the share of the scale; one who gives five stars is foretold more of them."""
    user_id = someone()
    wanted: dict[str, Any] = {
        "page_size": ITEMS - 1,
        "task_weights": {"rating": 1.0},
        "exploration_rate": 0.0,
    }
    before = await caller.recommend(user_id, **wanted)
    for item in before.items:
        assert 1.0 <= item.task_scores["rating"] <= 5.0
        assert item.score == pytest.approx((item.task_scores["rating"] - 1.0) / 4.0, abs=1e-5)
    rated = event_pb2.Event(user_id=user_id, item_id="item-0003", action=event_pb2.ACTION_RATING, value=5.0)
    await caller.feedback(rated)
    after = await caller.recommend(user_id, **wanted)
    stars = {item.item_id: item.task_scores["rating"] for item in before.items}
    rises = [i.task_scores["rating"] - stars[i.item_id] for i in after.items if i.item_id in stars]
    assert sum(rises) / len(rises) > 0.2


async def test_the_default_list_says_stars_and_does_not_go_by_them(caller: Caller) -> None:
    answer = await caller.recommend(someone(), exploration_rate=0.0)
    for item in answer.items:
        assert set(item.task_scores) == {"next", "like", "rating"}
        choices = 0.5 * (item.task_scores["next"] + item.task_scores["like"])
        assert item.score == pytest.approx(choices, abs=1e-5)


async def test_a_page_token_is_good_for_its_own_list_only(caller: Caller) -> None:
    user_id = someone()
    token = (await caller.recommend(user_id)).next_page_token
    for fields, reason in (
        ({"user_id": someone()}, "must be of a list of this user_id"),
        ({"user_id": user_id, "domain": "empty"}, "must be of domain 'empty', not another's"),
        ({"user_id": user_id, "page_size": 11}, "must come with the other fields as they were"),
        ({"user_id": user_id, "page_token": token[:-2] + "xx"}, "must be the next_page_token of a list"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            await caller.recommend(**({"page_token": token} | fields))


async def test_bad_input_is_refused_by_name_and_the_server_lives_on(caller: Caller) -> None:
    nan = float("nan")
    for fields, field in (
        ({"user_id": ""}, "user_id"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": 10**6}, "page_size"),
        ({"diversity": nan}, "diversity"),
        ({"task_weights": {"next": nan}}, "task_weights['next']"),
        ({"task_weights": {"clicks": 1.0}}, "task_weights['clicks']"),
        ({"events": [event_pb2.Event(item_id="i", action=99)]}, "events[0].action"),
        ({"events": [event_pb2.Event(item_id="i", action=1, value=nan)]}, "events[0].value"),
        ({"pins": [pb.Pin(item_id="a"), pb.Pin(item_id="b")]}, "pins[1].position"),
        ({"domain": "nowhere"}, "domain"),
    ):
        with pytest.raises(InvalidInput) as raised:
            await caller.recommend(**({"user_id": "ann"} | fields))
        assert raised.value.violations[0].field == field
        assert raised.value.code == "INVALID_ARGUMENT"
    too_large = pb.RecommendRequest(user_id="ann", exclude_item_ids=["x" * 250] * 22_000)
    with pytest.raises(Exception, match=r"at most|larger than max"):
        await caller.lists.Recommend(too_large)
    assert len((await caller.recommend(someone())).items) == 10


async def test_feedback_is_judged_event_by_event(caller: Caller) -> None:
    user_id = someone()
    good = event_pb2.Event(user_id=user_id, item_id="item-0001", action=event_pb2.ACTION_CLICK, event_id="e1")
    bad = event_pb2.Event(user_id=user_id, item_id="item-0001", action=event_pb2.ACTION_RATING, value=9.0)
    results = await caller.feedback(good, bad, good)
    assert [r.status for r in results] == [
        pb.FEEDBACK_STATUS_RECORDED,
        pb.FEEDBACK_STATUS_REJECTED,
        pb.FEEDBACK_STATUS_DUPLICATE,
    ]
    assert results[1].reason == "events[1].value must be 1..5 for a rating, got 9.0"
    with pytest.raises(InvalidInput, match=r"events\[0\].value must be 1..5 for a rating, got 9.0"):
        await caller.feedback(bad)


async def test_an_empty_catalogue_is_an_error(caller: Caller) -> None:
    with pytest.raises(EmptyCatalogue, match="domain 'empty' has no available items"):
        await caller.recommend(someone(), domain="empty")


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


async def test_exploration_takes_its_share_from_the_posterior(caller: Caller) -> None:
    sources: list[str] = []
    for _ in range(20):
        answer = await caller.recommend(someone(), exploration_rate=0.5)
        for item in answer.items:
            assert item.propensity == 0.5 if item.source != "exploration" else item.propensity <= 0.5
        sources += [item.source for item in answer.items]
    # Of 200 places half explore: 100 ± 7 at one standard deviation.
    assert 65 < sources.count("exploration") < 135


async def test_a_filter_of_few_matches_fills_the_list(caller: Caller) -> None:
    rules = item_pb2.ItemFilter(
        all_categories=["war"], attributes=[item_pb2.AttributeCondition(name="decade", values=["1970"])]
    )
    answer = await caller.recommend(someone(), filter=rules, page_size=50, include_items=True)
    # Every third item is about war, every sixth is of 1970 (n = 2, 8, 14, …): 10 of 60.
    assert sorted(ids(answer)) == item_ids(ITEMS)[2::6]
    assert {tuple(i.item.categories) for i in answer.items} == {("war",)}
    assert answer.items[0].item.title == f"Title of {answer.items[0].item_id}"


async def test_candidates_pins_and_exclusions_over_the_wire(caller: Caller) -> None:
    answer = await caller.recommend(
        someone(),
        candidate_item_ids=["item-0009", "item-0008", "item-0007"],
        exclude_item_ids=["item-0008"],
        pins=[pb.Pin(item_id="item-0001", position=1)],
    )
    assert sorted(ids(answer)) == ["item-0001", "item-0007", "item-0009"]
    assert ids(answer)[1] == "item-0001"


async def test_similar_items_leave_out_the_items_themselves(caller: Caller) -> None:
    found = await caller.similar("item-0003", page_size=5, include_items=True)
    assert len(found.items) == 5
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True)
    assert all(-1.001 <= score <= 1.001 for score in scores)
    assert "item-0003" not in [item.item_id for item in found.items]
    assert found.items[0].item.title
    with pytest.raises(NotFound):
        await caller.similar("nobody knows it")


async def test_a_new_item_is_in_lists_within_a_second_and_gone_when_deleted(caller: Caller) -> None:
    from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb

    from shared.rpc.channels import call

    user_id = someone()
    (result,) = await caller.upsert(item_pb2.Item(item_id="brand-new", title="Quite another thing"))
    assert result.status == item_pb2.ITEM_STATUS_CREATED

    async def listed() -> bool:
        return "brand-new" in ids(await caller.recommend(user_id, page_size=100))

    async def scored() -> bool:
        answer = await caller.recommend(user_id, candidate_item_ids=["brand-new"])
        return bool(answer.items) and bool(answer.items[0].task_scores)

    assert await until(listed) < 3.0
    assert await until(scored) < 3.0
    request = catalog_pb.DeleteItemsRequest(item_ids=["brand-new"])
    await call(caller.catalog.DeleteItems, request, timeout_s=10)

    async def gone() -> bool:
        return not await listed()

    assert await until(gone) < 3.0


async def test_an_erased_person_is_a_stranger_again(caller: Caller) -> None:
    from warmstart.gateway.v1 import user_service_pb2 as user_pb

    from shared.rpc.channels import call

    user_id = someone()
    await caller.like("item-0001", user_id=user_id)
    answer = await caller.recommend(user_id)
    assert answer.shots_used == 1
    export = await call(caller.users.ExportUser, user_pb.ExportUserRequest(user_id=user_id), timeout_s=10)
    assert "item-0001" in [event.item_id for event in export.events]
    erased = await call(caller.users.DeleteUser, user_pb.DeleteUserRequest(user_id=user_id), timeout_s=10)
    assert erased.existed
    assert (await caller.recommend(user_id)).shots_used == 0
