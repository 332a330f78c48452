"""The three views of a person, over gRPC."""

from __future__ import annotations

import numpy as np
import pytest
from warmstart.common.v1 import tensor_pb2, user_pb2

from shared.content import CONTENT_DIM
from shared.context.profiles import unit
from shared.domain import FloatArray, Item
from shared.errors import InvalidInput
from shared.rpc.codec import decode_tensor
from tests.integration.features.client import NOW_MS, Features, event, item, relation
from tests.integration.features.conftest import shared_encoder

IMPRESSION, VIEW, LIKE, DISLIKE, RATING = 1, 2, 4, 5, 7
DAY_MS = 24 * 3600 * 1000
HEAT, ALIEN, BAMBI = (
    Item("heat", "Heat", "", ("Crime", "Thriller")),
    Item("alien", "Alien", "", ("Sci-Fi",)),
    Item("bambi", "Bambi", "", ("Children's",)),
)


async def _stock(features: Features) -> None:
    await features.put(*(item(i.item_id, i.title, i.categories) for i in (HEAT, ALIEN, BAMBI)))


def _embedding(*weighted: tuple[float, Item]) -> FloatArray:
    vectors = shared_encoder().encode_items([i for _, i in weighted])
    return unit(np.array([w for w, _ in weighted], np.float32) @ vectors)


def _floats(tensor: tensor_pb2.Tensor) -> FloatArray:
    return decode_tensor(tensor, field="profile", shape=(CONTENT_DIM,))


async def test_behaviour_and_content_follow_what_a_person_likes(features: Features) -> None:
    await _stock(features)
    await features.record(
        event("ann", "heat", LIKE, time_ms=NOW_MS),
        event("ann", "alien", RATING, value=5.0, time_ms=NOW_MS - 30 * DAY_MS),  # half as much
        event("ann", "bambi", DISLIKE, time_ms=NOW_MS),
    )
    at = user_pb2.RequestContext(device="phone", surface="home", time_ms=NOW_MS)
    context = (await features.context("ann", request=at)).context
    assert context.request == at
    shares = {share.category: round(share.share, 3) for share in context.categories}
    assert shares == {"Crime": 0.333, "Thriller": 0.333, "Sci-Fi": 0.333}
    np.testing.assert_allclose(
        _floats(context.content_profile), _embedding((1.0, HEAT), (0.5, ALIEN)), atol=2e-3
    )
    assert not _floats(context.social_profile).any()


async def test_events_of_the_request_count_for_this_answer_only(features: Features) -> None:
    await _stock(features)
    await features.record(event("ann", "heat", time_ms=NOW_MS))
    carried = [event("", "alien", time_ms=NOW_MS + 1), event("", "heat", IMPRESSION, time_ms=NOW_MS + 2)]
    answer = await features.context("ann", events=carried)
    assert list(answer.context.history.item_ids) == ["heat", "alien"]
    assert list(answer.seen_item_ids) == ["alien", "heat"]
    assert answer.context.total_events == 1
    assert await features.history("ann") == ["heat"]
    with pytest.raises(InvalidInput, match=r"events\[0\]\.user_id must be empty or the request's user_id"):
        await features.context("ann", events=[event("bob", "alien")])


async def test_someone_without_events_has_features_from_profile_and_friends(features: Features) -> None:
    await _stock(features)
    await features.record(
        event("bob", "heat", LIKE, time_ms=NOW_MS),
        event("bob", "bambi", DISLIKE, time_ms=NOW_MS),
        event("carl", "alien", LIKE, time_ms=NOW_MS - 30 * DAY_MS),
        event("carl", "heat", VIEW, time_ms=NOW_MS),
    )
    await features.relate(relation("new", "bob", weight=0.5), relation("new", "carl", kind="trusts"))
    await features.ask("UpsertUsers", users=[user_pb2.User(user_id="new", attributes={"age": "20"})])
    answer = await features.context("new")
    context = answer.context
    assert not context.history.item_ids
    assert dict(context.attributes) == {"age": "20"}
    assert not _floats(context.content_profile).any()
    # Carl: a view now (.3 of Heat) and a like a half-life ago (.5 of Alien); Bob: Heat alone.
    carl, bob = _embedding((0.3, HEAT), (0.5, ALIEN)), _embedding((1.0, HEAT))
    np.testing.assert_allclose(_floats(context.social_profile), unit(carl + 0.5 * bob), atol=2e-3)
    likes = [(n.item_id, round(n.weight, 3), n.neighbours) for n in answer.neighbour_likes]
    assert likes == [("alien", 0.5, 1), ("heat", 0.5, 1)]


async def test_relations_of_the_future_and_removed_ones_have_no_say(features: Features) -> None:
    await _stock(features)
    await features.record(event("bob", "heat"), event("carl", "alien"))
    await features.relate(relation("ann", "bob", time_ms=NOW_MS + DAY_MS), relation("ann", "carl"))
    await features.relate(relation("ann", "carl", removed=True))
    early = user_pb2.RequestContext(time_ms=NOW_MS)
    assert not (await features.context("ann", request=early)).neighbour_likes
    assert [n.item_id for n in (await features.context("ann")).neighbour_likes] == ["heat"]


async def test_an_unknown_person_is_no_error(features: Features) -> None:
    answer = await features.context("nobody")
    assert answer.context.user_id == "nobody"
    assert not answer.context.history.item_ids
    assert answer.context.total_events == 0
    assert len(_floats(answer.context.content_profile)) == CONTENT_DIM
