"""The story's measures, worked by hand on a gateway that ranks by a table of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from warmstart.common.v1 import item_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.failures import CommandError
from services.cli.story.claims import Claim, failures
from services.cli.story.newcomers import NewcomerCheck, check_newcomers, choose_models, sequel_of
from services.cli.story.people import HeldOutPerson, held_out_people, positive_items
from services.cli.story.ranking import Asker, rank_catalogue
from services.cli.story.tastes import check_taste
from shared.datasets import Dataset, Row
from shared.domain import Action, Event, Item, User
from shared.holdout import Role, role_of

GENRES = ("Comedy", "Drama")


@dataclass
class FakeGateway:
    """Scores an item by how many of the carried events are on its first category; notes what is deleted."""

    catalogue: dict[str, Item] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    deleted_items: list[str] = field(default_factory=list)
    stored_people: set[str] = field(default_factory=set)
    degraded_first: int = 0

    async def recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        self.stored_people.add(request.user_id)  # impressions
        if self.degraded_first > 0:
            self.degraded_first -= 1
            return pb.RecommendResponse(rung=pb.RUNG_TRENDING)
        seen = {e.item_id for e in request.events}
        liked = [self.catalogue[i].categories[0] for i in seen]
        known = [i for i in request.candidate_item_ids if i in self.catalogue and i not in seen]
        return pb.RecommendResponse(
            rung=pb.RUNG_ADAPTED,
            items=[
                pb.RecommendedItem(item_id=i, score=liked.count(self.catalogue[i].categories[0]))
                for i in known
            ],
        )

    async def upsert_items(self, items: Sequence[Item]) -> list[item_pb2.ItemResult]:
        self.catalogue.update({i.item_id: i for i in items})
        self.added += [i.item_id for i in items]
        return [item_pb2.ItemResult(item_id=i.item_id, status=item_pb2.ITEM_STATUS_CREATED) for i in items]

    async def delete_items(self, item_ids: Sequence[str]) -> list[item_pb2.ItemResult]:
        self.deleted_items += item_ids
        for item_id in item_ids:
            del self.catalogue[item_id]
        return []

    async def upsert_users(self, users: Sequence[User]) -> list[object]:
        self.stored_people.update(u.user_id for u in users)
        return []

    async def delete_user(self, user_id: str) -> bool:
        self.stored_people.discard(user_id)
        return True


def catalogue(count: int = 40) -> dict[str, Item]:
    """Items of two kinds, turn by turn."""
    return {f"i{n:02d}": Item(f"i{n:02d}", title=f"T{n}", categories=(GENRES[n % 2],)) for n in range(count)}


def messages(items: Mapping[str, Item]) -> dict[str, item_pb2.Item]:
    return {
        i: item_pb2.Item(item_id=i, title=item.title, categories=item.categories) for i, item in items.items()
    }


def person(user_id: str, kind: int, likes: frozenset[str] = frozenset()) -> HeldOutPerson:
    """Has liked ten items of one kind."""
    support = tuple(Event(user_id, f"i{2 * n + kind:02d}", Action.LIKE, 0.0, 1000 + n) for n in range(10))
    return HeldOutPerson(User(user_id), support, likes, frozenset(e.item_id for e in support) | likes)


def test_people_are_held_out_by_hash_and_their_first_events_are_the_support():
    ids = [f"u{n}" for n in range(40)]
    events = [
        Row(n, Event(u, f"i{n}", Action.RATING, 5.0 if n == 25 else 2.0, 1000 - n if n < 5 else 2000 + n))
        for u in ids
        for n in range(30)
    ]
    people = held_out_people(Dataset("d", events=lambda: iter(events)))
    assert [p.user.user_id for p in people] == sorted(u for u in ids if role_of(u) is Role.HELD_OUT)
    first = people[0]
    assert [e.item_id for e in first.support[:6]] == ["i4", "i3", "i2", "i1", "i0", "i5"]  # by time
    assert len(first.support) == 20
    assert first.likes == {"i25"}
    assert first.asked_ms == first.support[-1].time_ms + 1
    carried = first.carried()[0]
    assert (carried.user_id, carried.event_id, carried.item_id) == ("", "", "i4")


def test_people_with_too_few_events_are_left_out():
    held_out = next(f"u{n}" for n in range(100) if role_of(f"u{n}") is Role.HELD_OUT)
    events = [Row(n, Event(held_out, f"i{n}", Action.LIKE, 0.0, n + 1)) for n in range(29)]
    assert held_out_people(Dataset("d", events=lambda: iter(events))) == []


def test_positive_items_are_those_that_pull():
    events = [
        Event("u", "a", Action.RATING, 4.0, 1),
        Event("u", "b", Action.RATING, 3.0, 1),
        Event("u", "c", Action.LIKE, 0.0, 1),
        Event("u", "d", Action.DISLIKE, 0.0, 1),
    ]
    assert positive_items(events) == {"a", "c"}


async def test_a_ranking_is_by_score_then_by_id_without_what_was_seen():
    gateway = FakeGateway(catalogue(6))
    asker = Asker("x", [e for e in person("x", 0).carried() if e.item_id in {"i00", "i02"}])
    ranking = await rank_catalogue(gateway, asker, sorted(gateway.catalogue))
    # Two comedies liked: the third one scores 2, the three dramas 0.
    assert ranking.ranks == {"i04": 1, "i01": 2, "i03": 3, "i05": 4}
    assert ranking.percentile("i04") == 0.0
    assert ranking.percentile("i03") == pytest.approx(2 / 3)
    assert ranking.mean_rank(["i01", "i03", "gone"]) == 2.5
    with pytest.raises(CommandError, match="none of the items is ranked"):
        ranking.mean_rank(["gone"])


async def test_a_degraded_list_is_asked_for_again(monkeypatch):
    monkeypatch.setattr("services.cli.story.ranking._PAUSE_S", 0.0)
    gateway = FakeGateway(catalogue(4), degraded_first=3)
    ranking = await rank_catalogue(gateway, Asker("x"), sorted(gateway.catalogue))
    assert len(ranking.ranks) == 4


async def test_a_model_that_stays_away_ends_the_story(monkeypatch):
    monkeypatch.setattr("services.cli.story.ranking._PATIENCE_S", 0.0)
    gateway = FakeGateway(catalogue(4), degraded_first=10**9)
    with pytest.raises(CommandError, match="the model takes no part"):
        await rank_catalogue(gateway, Asker("x"), ["i00"])


async def test_newcomers_rank_high_for_those_who_like_their_kind_and_all_is_removed():
    # i20 … i39 are new to both; each came to like two of the own kind.
    people = [person("a", 0, frozenset({"i20", "i22"})), person("b", 1, frozenset({"i21", "i23"}))]
    gateway = FakeGateway(catalogue())
    check = await check_newcomers(gateway, people, messages(catalogue()), "run", count=4)
    # 44 items less 10 seen leave 34, of the own kind 12, two of them new: "run-…" comes after "i…" among
    # equals, so they are 11th and 12th; the other two are 33rd and 34th.
    assert (check.fitting_pairs, check.other_pairs) == (4, 4)
    assert check.fitting_median == pytest.approx(10.5 / 33)
    assert check.other_median == pytest.approx(32.5 / 33)
    assert sorted(gateway.deleted_items) == sorted(gateway.added)
    assert gateway.stored_people == set()
    assert gateway.catalogue == catalogue()


async def test_one_newcomer_is_ranked_by_two_opposite_people():
    gateway = FakeGateway(catalogue())
    check = await check_taste(gateway, [person("a", 0), person("b", 1)], messages(catalogue()), "run")
    assert check.category == "Comedy"
    assert (check.fitting.user_id, check.fitting.share, check.other.user_id, check.other.share) == (
        "a",
        1.0,
        "b",
        0.0,
    )
    assert check.fitting.percentile < check.other.percentile
    assert all(claim.holds for claim in check.claims())
    assert gateway.stored_people == set()
    assert gateway.catalogue == catalogue()


def test_models_are_drawn_among_what_somebody_came_to_like():
    items = messages(catalogue())
    people = [person("a", 0, frozenset({"i20", "i22", "not in the catalogue"}))]
    assert [m.item_id for m in choose_models(people, items, 2, 0)] == ["i20", "i22"]
    with pytest.raises(CommandError, match="needs 3 items that held-out people like, found 2"):
        choose_models(people, items, 3, 0)


@pytest.mark.parametrize(
    ("title", "sequel"), [("Alien", "Alien II"), ("Alien (1979)", "Alien II (1979)"), ("", "")]
)
def test_a_sequel_has_the_kind_and_another_title(title, sequel):
    model = item_pb2.Item(item_id="1", title=title, categories=["Horror"], attributes={"year": "1979"})
    assert sequel_of(model, "new") == Item(
        "new", title=sequel, categories=("Horror",), attributes={"year": "1979"}
    )


@pytest.mark.parametrize(
    ("fitting", "others", "holds"),
    [(0.2, 0.21, [True, True]), (0.21, 0.5, [False, True]), (0.1, 0.2, [True, False])],
)
def test_the_claims_are_the_top_fifth_for_fitting_people_and_not_for_others(fitting, others, holds):
    check = NewcomerCheck(100, 10, 50, fitting, 500, others, 10.0)
    assert [claim.holds for claim in check.claims()] == holds


def test_failures_say_the_claim_and_what_was_seen():
    claims = [Claim("a", True, "x"), Claim("b falls", False, "2 → 1")]
    assert failures(claims) == ["b falls: 2 → 1"]
