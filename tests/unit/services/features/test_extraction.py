"""The three views as pure functions, against plain versions and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from services.features.extraction.behaviour import seen_with_carried, with_carried
from services.features.extraction.social import (
    Circle,
    Neighbour,
    neighbours,
    neighbours_likes,
    neighbours_profile,
)
from services.features.mirror import ItemTable
from services.features.store.items import StoredItem
from shared.context.profiles import content_profile, social_profile
from shared.context.standing import standing_labels
from shared.domain import Action, Event, FloatArray, History, Item, Relation

DAY_MS = 24 * 3600 * 1000
DIM = 6


def _event(item_id: str, time_ms: int, action: Action = Action.LIKE, value: float = 0.0) -> Event:
    return Event("ann", item_id, action, value, time_ms, item_id + str(time_ms))


def _table(count: int, rng: np.random.Generator) -> ItemTable:
    table = ItemTable(DIM)
    for n in range(count):
        vector = rng.normal(size=DIM).astype(np.float16)
        table.put(StoredItem(Item(f"i{n}", categories=(f"c{n % 3}",)), "", vector))
    return table


def test_carried_events_take_their_place_in_time_after_stored_ones_of_the_same_time() -> None:
    stored = History.of([_event("a", 10), _event("b", 20)])
    carried = [_event("d", 30), _event("c", 20), _event("x", 25, Action.IMPRESSION)]
    assert with_carried(stored, carried, max_events=10).item_ids == ("a", "b", "c", "d")
    assert with_carried(stored, carried, max_events=2).item_ids == ("c", "d")
    assert with_carried(stored, [], max_events=10) is stored


def test_carried_items_come_before_the_seen_ones_each_once() -> None:
    carried = [_event("c", 1), _event("a", 2), _event("x", 3, Action.IMPRESSION)]
    assert seen_with_carried(("b", "a"), carried, max_items=10) == ("a", "c", "b")
    assert seen_with_carried(("b", "a"), carried, max_items=2) == ("a", "c")


def test_the_strongest_relations_count_each_person_once_and_none_of_the_future() -> None:
    relations = [
        Relation("ann", "bob", "follows", 0.5),
        Relation("ann", "bob", "trusts", 0.75),
        Relation("ann", "carl", weight=0.75, time_ms=5),
        Relation("ann", "dora", weight=1.0, time_ms=11),
        Relation("ann", "eve", weight=0.25),
    ]
    assert neighbours(relations, 10, count=2) == [Neighbour("carl", 0.75), Neighbour("bob", 0.75)]


def _plain_profile(
    people: list[Neighbour], histories: list[History], table: ItemTable, now_ms: int
) -> FloatArray:
    """One neighbour after another, by the functions that training uses."""
    profiles = [
        content_profile(
            table.facts(h.item_ids).embeddings,
            standing_labels(h.item_ids, h.actions, h.values),
            h.time_ms,
            now_ms,
        )
        for h in histories
    ]
    return social_profile(np.stack(profiles), np.array([p.weight for p in people], np.float32))


@pytest.mark.parametrize("seed", range(5))
def test_all_neighbours_at_once_equal_one_after_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = _table(30, rng)
    people = [Neighbour(f"n{n}", float(rng.uniform(0.1, 1.0))) for n in range(6)]
    histories = [
        History.of(
            [
                _event(
                    f"i{rng.integers(40)}",  # ten of them without a row
                    int(rng.integers(400)) * DAY_MS,
                    Action(int(rng.integers(2, 10))),
                    float(rng.uniform(1, 5)),
                )
                for _ in range(int(rng.integers(0, 12)))
            ]
        )
        for _ in people
    ]
    now_ms = 300 * DAY_MS
    got = neighbours_profile(Circle.of(people, histories), table, now_ms, DIM)
    np.testing.assert_allclose(got, _plain_profile(people, histories, table, now_ms), atol=1e-6)


def test_likes_of_neighbours_add_up_by_relation_and_recency() -> None:
    people = [Neighbour("bob", 1.0), Neighbour("carl", 0.5)]
    bob = History.of(
        [
            _event("a", 0),  # liked again later: the later like counts
            _event("a", 60 * DAY_MS),
            _event("b", 30 * DAY_MS),
            _event("c", 60 * DAY_MS, Action.VIEW),
            _event("d", 60 * DAY_MS, Action.RATING, 2.0),
        ]
    )
    carl = History.of([_event("b", 60 * DAY_MS, Action.RATING, 5.0)])
    likes = neighbours_likes(Circle.of(people, [bob, carl]), 1000 * DAY_MS)
    # Recency is 1 at day 60 (the newest) and 1/2 at day 30: a = 1·1, b = 1·½ + ½·1.
    assert [(n.item_id, n.weight, n.neighbours) for n in likes] == [("a", 1.0, 1), ("b", 1.0, 2)]
    assert neighbours_likes(Circle.of(people, [History.empty()] * 2), 1000) == ()


def test_the_table_gives_zeros_for_what_it_does_not_hold_and_names_it() -> None:
    table = _table(2, np.random.default_rng(0))
    facts = table.facts(["i1", "x", "i0", "x"])
    assert facts.missing == ("x",)
    assert facts.categories == (("c1",), (), ("c0",), ())
    assert not facts.embeddings[[1, 3]].any()
    assert facts.embeddings[0].any()
    fresh = StoredItem(Item("x", categories=("new",)), "", np.ones(DIM, np.float16))
    facts = table.facts(["i1", "x"], {"x": fresh})
    assert facts.missing == ()
    assert facts.categories[1] == ("new",)
    np.testing.assert_array_equal(facts.embeddings[1], np.ones(DIM))


def test_the_table_grows_and_uses_freed_rows_again() -> None:
    table = ItemTable(DIM)
    for n in range(3000):
        table.put(StoredItem(Item(f"i{n}"), "", np.full(DIM, n % 7, np.float16)))
    for n in range(0, 3000, 2):
        table.drop(f"i{n}")
    table.drop("never there")
    for n in range(1500):
        table.put(StoredItem(Item(f"j{n}", available=n % 2 == 0), "", None))
    assert len(table) == 3000
    assert table.embeddings(["i1", "i2999", "j0", "i0"])[:, 0].tolist() == [1.0, 2999 % 7, 0.0, 0.0]
    assert [table.available(i) for i in ("j0", "j1", "i0")] == [True, False, False]
