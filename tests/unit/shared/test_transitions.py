"""What follows a person's events, by hand and against its plain twin."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import FloatArray, IntArray
from shared.transitions import CHANCE, Transitions

# Item 0 is followed by 1 (.5) and 2 (.1), item 1 by 2 (.3), item 2 by nothing.
HAND = Transitions(
    np.array([[1, 2], [2, -1], [-1, -1]], np.int32),
    np.array([[0.5, 0.1], [0.3, 0.0], [0.0, 0.0]], np.float32),
)


def plain_following(table: Transitions, rows: IntArray, weights: FloatArray) -> dict[int, float]:
    sums: dict[int, float] = {}
    for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
        if row < 0:
            continue
        for item, strength in zip(table.items[row].tolist(), table.weights[row].tolist(), strict=True):
            if item >= 0:
                sums[item] = sums.get(item, 0.0) + weight * strength
    return {item: float(np.log(1.0 + total / CHANCE)) for item, total in sorted(sums.items()) if total > 0.0}


def test_events_say_by_their_weight_what_follows() -> None:
    """After item 0 (a quarter) and item 1 (three quarters): 1 gets .25 · .5, 2 gets .25 · .1 + .75 · .3."""
    items, values = HAND.following(np.array([0, 1], np.int32), np.array([0.25, 0.75], np.float32))
    assert items.tolist() == [1, 2]
    np.testing.assert_allclose(values, np.log(1.0 + np.array([0.125, 0.25]) / CHANCE), rtol=1e-6)


def test_nothing_follows_nothing_and_unknown_items() -> None:
    for rows in ([], [-1], [2]):
        items, values = HAND.following(np.array(rows, np.int32), np.ones(len(rows), np.float32))
        assert (items.tolist(), values.tolist()) == ([], [])
    nobody = Transitions.none(3, 0)
    assert not nobody.following_all(np.array([[0, 1]], np.int32), np.ones((1, 2), np.float32)).any()


@given(st.data())
def test_it_is_the_plain_way(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    size, most, events = (data.draw(st.integers(1, 6)) for _ in range(3))
    items = rng.integers(-1, size, (size, most)).astype(np.int32)
    weights = np.where(items >= 0, rng.random((size, most)), 0.0).astype(np.float32)
    table = Transitions(items, weights)
    rows = rng.integers(-1, size, (2, events)).astype(np.int32)
    said = rng.random((2, events)).astype(np.float32) * (rng.random((2, events)) < 0.7)
    dense = table.following_all(rows, said)
    for person in range(2):
        wanted = plain_following(table, rows[person], said[person])
        found, values = table.following(rows[person], said[person])
        assert found.tolist() == list(wanted)
        np.testing.assert_allclose(values, list(wanted.values()), rtol=1e-4)
        np.testing.assert_array_equal(np.flatnonzero(dense[person]), found)


def test_into_items_that_the_table_does_not_know_follows_what_does_into_their_like() -> None:
    """After item 0: f of 1 is a, f of 2 is b, f of 0 is 0. Like 1 and 2: (a + b) / 2; like 0 and 1: a / 2;
    like 1 and nothing else: a; like nothing: 0."""
    items, values = HAND.following(np.array([0], np.int32), np.ones(1, np.float32))
    a, b = values.tolist()
    found = HAND.into_others(items, values, np.array([[1, 2], [0, 1], [1, -1], [-1, -1]], np.int32))
    np.testing.assert_allclose(found, [(a + b) / 2, a / 2, a, 0.0], rtol=1e-6)
    assert HAND.into_others(items, values, np.zeros((2, 0), np.int32)).tolist() == [0.0, 0.0]
    assert HAND.into_others(items, values, np.zeros((0, 2), np.int32)).shape == (0,)
