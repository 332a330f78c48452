"""How values look in the store."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.features.store.keys import DomainKeys
from services.features.store.records import (
    event_action,
    event_time_ms,
    pack_event,
    pack_exposure,
    pack_item,
    pack_relation,
    relation_field,
    split_relation_field,
    unpack_event,
    unpack_history,
    unpack_item,
    unpack_relations,
)
from shared.domain import Action, Event, Exposure, Item, Relation

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)


@given(
    item_id=_TEXT,
    event_id=_TEXT,
    action=st.sampled_from(Action),
    value=st.floats(allow_nan=False, allow_infinity=False),
    time_ms=st.integers(0, 253402300799999),
)
def test_an_event_comes_back_as_it_went_in(
    item_id: str, event_id: str, action: Action, value: float, time_ms: int
) -> None:
    event = Event("ann", item_id, action, value, time_ms, event_id, Exposure("l", 1, 0.5, "s", "v", "x"))
    record = pack_event(event)
    assert unpack_event("ann", record, pack_exposure(event.exposure)) == event
    assert event_time_ms(record) == time_ms
    assert event_action(record) == action


def test_history_members_become_columns_in_their_order() -> None:
    events = [
        Event("ann", "ä-item", Action.RATING, 4.5, 1000, "e1"),
        Event("ann", "b", Action.LIKE, 0.0, 2000, "e2"),
    ]
    history = unpack_history([n.to_bytes(8, "big") + pack_event(e) for n, e in enumerate(events)])
    assert history.item_ids == ("ä-item", "b")
    np.testing.assert_array_equal(history.actions, [7, 4])
    np.testing.assert_array_equal(history.values, np.array([4.5, 0.0], np.float32))
    np.testing.assert_array_equal(history.time_ms, [1000, 2000])
    assert len(unpack_history([])) == 0


def test_relations_come_strongest_first_and_without_the_removed_ones() -> None:
    relations = [
        Relation("ann", "bob", "follows", 0.5, 7),
        Relation("ann", "carl", "trusts", 1.0, 0),
        Relation("ann", "dora", "follows", 1.0, 0, removed=True),
    ]
    packed = {relation_field(r.kind, r.other_user_id).encode(): pack_relation(r) for r in relations}
    assert unpack_relations("ann", packed) == [relations[1], relations[0]]
    assert split_relation_field(relation_field("follows", "b:o\u2028b").encode()) == ("follows", "b:o\u2028b")


def test_an_item_comes_back_with_what_its_embedding_stands_for() -> None:
    item = Item("i", "Títle", "text\nmore", ("a", "b"), {"year": "1995"}, available=False, created_ms=5)
    assert unpack_item("i", pack_item(item, "usem3/1:abc")) == (item, "usem3/1:abc")


def test_a_person_lives_in_one_shard_for_ever_and_their_keys_in_one_slot() -> None:
    keys = DomainKeys("shop", 64)
    # Fixed values: another hash would lose everyone who is stored.
    assert [keys.shard_number(u) for u in ("ann", "bob", "1")] == [52, 34, 7]
    shard = keys.shard("ann}:x")
    for key in (shard.log, shard.history("ann}:x"), shard.seen("ann}:x"), shard.dedupe("ann}:x")):
        assert key.startswith(f"{shard.tag}:")
    assert keys.places_by_shard(["ann", "bob", "ann"])[keys.shard_number("ann")] == [0, 2]


@pytest.mark.parametrize("num_shards", [1, 7, 64])
def test_people_spread_over_all_shards(num_shards: int) -> None:
    keys = DomainKeys("shop", num_shards)
    counts = np.bincount([keys.shard_number(f"u{n}") for n in range(100 * num_shards)], minlength=num_shards)
    assert counts.min() > 50
