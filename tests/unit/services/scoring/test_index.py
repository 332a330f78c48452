"""Exact retrieval against its plain twin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from services.scoring.index import ExactIndex, Gains, Hits
from shared.domain import FloatArray


def plain_search(
    index: ExactIndex, queries: FloatArray, limits: Sequence[int], excluded: Sequence[int]
) -> list[list[tuple[str, float]]]:
    """Score everything, sort everything."""
    found = []
    for query, limit in zip(queries, limits, strict=True):
        scored = [
            (-float(row @ query), item_id)
            for slot, (item_id, row) in enumerate(zip(index.ids, index.rows, strict=False))
            if index.alive[slot] and slot not in excluded and np.isfinite(row @ query)
        ]
        found.append([(item_id, -score) for score, item_id in sorted(scored)[:limit]])
    return found


def pairs(hits: Sequence[Hits]) -> list[list[tuple[str, float]]]:
    return [list(zip(h.item_ids, h.scores.tolist(), strict=True)) for h in hits]


def slots(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


def test_what_is_added_counts_for_its_own_query_alone() -> None:
    """Of (1, 0): a and c score 1, b 0, d −1. b gets 2 more, d 1.5: b 2, then a and c 1 each, d 0.5."""
    queries = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    more = Gains(slots(1, 3), np.array([2.0, 1.5], np.float32))
    plain, other = HAND.search(queries, [4, 4], slots(), [[], [more]])
    assert pairs([plain]) == [[("a", 1.0), ("c", 1.0), ("b", 0.0), ("d", -1.0)]]
    assert pairs([other]) == [[("b", 2.0), ("a", 1.0), ("c", 1.0), ("d", 0.5)]]
    (without,) = HAND.search(queries[:1], [4], slots(1), [[more]])
    assert without.item_ids == ("a", "c", "d")


def test_values_are_found_by_their_slots() -> None:
    more = Gains(slots(2, 5), np.array([2.0, 5.0], np.float32))
    np.testing.assert_array_equal(more.at(slots(5, 0, 2, 9)), [5.0, 0.0, 2.0, 0.0])
    np.testing.assert_array_equal(more.times(0.5).at(slots(5)), [2.5])
    np.testing.assert_array_equal(Gains.nothing().at(slots(0, 1)), [0.0, 0.0])


def test_what_all_gain_is_added_to_what_some_do() -> None:
    """All lose 1 but b, which gains 2 − 1; half of that is asked for, and twice the same counts twice."""
    gains = Gains(slots(1), np.array([2.0], np.float32), -1.0)
    np.testing.assert_array_equal(gains.at(slots(0, 1)), [-1.0, 1.0])
    np.testing.assert_array_equal(gains.times(0.5).at(slots(0, 1)), [-0.5, 0.5])
    np.testing.assert_array_equal(Gains(slots(), np.zeros(0, np.float32), -1.0).at(slots(0)), [-1.0])
    queries = np.array([[1.0, 0.0]], np.float32)
    half = gains.times(0.5)
    found = HAND.search(queries, [4], slots(), [[half, half]])
    assert pairs(found) == [[("b", 1.0), ("a", 0.0), ("c", 0.0), ("d", -2.0)]]


HAND = ExactIndex(
    ["a", "b", "c", "d"],
    np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]], np.float32),
    np.array([True, True, True, True]),
)
#  query (2, 1) scores a 2, b 1, c 3, d −2
QUERY = np.array([[2.0, 1.0]], np.float32)


def test_the_largest_inner_products_come_first() -> None:
    assert pairs(HAND.search(QUERY, [3], slots())) == [[("c", 3.0), ("a", 2.0), ("b", 1.0)]]


def test_excluded_and_dead_items_are_never_found() -> None:
    assert pairs(HAND.search(QUERY, [9], slots(2, 1))) == [[("a", 2.0), ("d", -2.0)]]
    dead = ExactIndex(HAND.ids, HAND.rows, np.array([False, True, False, True]))
    assert pairs(dead.search(QUERY, [9], slots(1))) == [[("d", -2.0)]]
    assert pairs(dead.search(QUERY, [9], slots(1, 3))) == [[]]


def test_ties_are_broken_by_id_also_at_the_cut() -> None:
    ids = ["m", "b", "z", "a", "k"]
    rows = np.array([[1.0], [2.0], [1.0], [1.0], [1.0]], np.float32)
    index = ExactIndex(ids, rows, np.ones(5, bool))
    one = np.ones((1, 1), np.float32)
    assert index.search(one, [3], slots())[0].item_ids == ("b", "a", "k")
    assert index.search(one, [9], slots())[0].item_ids == ("b", "a", "k", "m", "z")


def test_items_with_scores_that_are_no_numbers_are_left_out() -> None:
    rows = np.array([[np.nan], [1.0], [np.inf], [-np.inf]], np.float32)
    index = ExactIndex(["a", "b", "c", "d"], rows, np.ones(4, bool))
    assert pairs(index.search(np.ones((1, 1), np.float32), [9], slots())) == [[("b", 1.0)]]


def test_no_items_give_no_hits() -> None:
    index = ExactIndex([], np.zeros((0, 2), np.float32), np.zeros(0, bool))
    assert pairs(index.search(QUERY, [5], slots())) == [[]]


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_its_plain_twin_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, width = int(rng.integers(1, 200)), int(rng.integers(1, 6))
    # Small whole numbers: products are exact and ties are many.
    rows = rng.integers(-2, 3, (count, width)).astype(np.float32)
    index = ExactIndex([f"i{n}" for n in rng.permutation(count)], rows, rng.random(count) < 0.8)
    queries = rng.integers(-2, 3, (3, width)).astype(np.float32)
    limits = [1, int(rng.integers(1, count + 1)), 500]
    excluded = rng.integers(0, count, int(rng.integers(0, 30)))
    found = index.search(queries, limits, excluded)
    assert pairs(found) == plain_search(index, queries, limits, excluded.tolist())
