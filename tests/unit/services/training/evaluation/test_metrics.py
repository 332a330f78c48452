"""Ranking metrics, worked by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.evaluation.metrics import (
    hr_at,
    in_parts,
    ndcg_at,
    paired_bootstrap,
    ranks_of,
    top_items,
)
from services.training.evaluation.words import interval


def items(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_ndcg_discounts_by_place_and_divides_by_the_best_order() -> None:
    ranked = np.array([[7, 3, 9]], np.int32)
    # Hits at places 1 and 3 of two relevant items: (1/log2(2) + 1/log2(4)) / (1/log2(2) + 1/log2(3)).
    expected = (1.0 + 1.0 / log2(4)) / (1.0 + 1.0 / log2(3))
    assert ndcg_at(ranked, [items(7, 9)], 3)[0] == pytest.approx(expected)


def test_ndcg_of_a_perfect_list_is_one_even_with_more_relevant_items_than_places() -> None:
    ranked = np.array([[1, 2]], np.int32)
    assert ndcg_at(ranked, [items(1, 2, 3, 4)], 2)[0] == pytest.approx(1.0)


def test_ndcg_looks_at_the_first_places_only_and_is_0_without_relevant_items() -> None:
    ranked = np.array([[1, 2, 3], [1, 2, 3]], np.int32)
    assert ndcg_at(ranked, [items(3), items()], 2).tolist() == [0.0, 0.0]


def test_an_empty_place_is_no_hit() -> None:
    ranked = np.array([[5, -1, -1]], np.int32)
    assert ndcg_at(ranked, [items(6)], 3)[0] == 0.0
    assert hr_at(ranked, [items(5)], 3)[0] == 1.0


def test_hit_rate_asks_for_one_hit() -> None:
    ranked = np.array([[1, 2], [3, 4]], np.int32)
    assert hr_at(ranked, [items(2, 9), items(1, 2)], 2).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("num_items", "sizes"),
    [(1_000, [256, 44]), (2**17, [128, 128, 44]), (2**23, [2] * 150), (2**25, [1] * 300)],
)
def test_people_are_asked_so_few_at_a_time_that_their_scores_fit_into_memory(
    num_items: int, sizes: list[int]
) -> None:
    """64 MB are 2²⁴ scores; never more than 256 people, never fewer than one."""
    people = list(range(300))
    parts = list(in_parts(people, num_items))
    assert [len(part) for part in parts] == sizes
    assert [person for part in parts for person in part] == people


def test_top_items_masks_seen_items_and_puts_bad_scores_last() -> None:
    scores = np.array([[0.5, 0.9, np.nan, 0.7, np.inf]], np.float32)
    # 1 is seen; NaN and infinity are no scores.
    assert top_items(scores, [items(1)], 4).tolist() == [[3, 0, -1, -1]]


def test_ties_go_to_the_smaller_number() -> None:
    scores = np.array([[1.0, 2.0, 2.0, 1.0]], np.float32)
    assert top_items(scores, [items()], 4).tolist() == [[1, 2, 0, 3]]


@given(st.data())
def test_top_items_are_those_of_a_whole_sort(data: st.DataObject) -> None:
    people, size, n = (data.draw(st.integers(low, 9)) for low in (0, 1, 0))
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    scores = rng.choice([0.0, 1.0, 2.0, np.nan, -np.inf], (people, size)).astype(np.float32)
    masked = [np.flatnonzero(rng.random(size) < 0.3).astype(np.int32) for _ in range(people)]
    found = top_items(scores, masked, n)
    assert found.shape == (people, min(n, size))
    for row, hidden, ranked in zip(scores, masked, found.tolist(), strict=True):
        shown = [i for i in range(size) if np.isfinite(row[i]) and i not in hidden]
        wanted = sorted(shown, key=lambda i: (-row[i], i))[: len(ranked)]
        assert ranked == wanted + [-1] * (len(ranked) - len(wanted))


def test_a_rank_counts_the_items_above() -> None:
    scores = np.array([0.1, 0.9, 0.5, -np.inf], np.float32)
    assert ranks_of(scores, items(1, 2, 0)).tolist() == [1, 2, 3]


def test_the_bootstrap_interval_holds_the_mean_and_knows_a_clear_difference() -> None:
    rng = np.random.default_rng(0)
    clear = paired_bootstrap(rng.normal(0.5, 1.0, 400))
    assert clear.low < clear.mean < clear.high
    assert clear.says_better
    # The normal interval has half-width 1.96 / sqrt(400) = 0.098.
    assert clear.high - clear.low == pytest.approx(2 * 0.098, rel=0.15)
    unclear = paired_bootstrap(rng.normal(0.0, 1.0, 400))
    assert not unclear.says_better
    assert not unclear.says_worse


def test_of_one_person_there_is_a_difference_and_no_interval() -> None:
    alone = paired_bootstrap(np.array([0.5]))
    assert (alone.mean, np.isnan(alone.low), np.isnan(alone.high)) == (0.5, True, True)
    assert not alone.says_better
    assert not alone.says_worse
    assert interval(alone) == "+0.5000 (one person)"
    assert interval({"mean": 0.5, "low": None, "high": None}, digits=1) == "+0.5 (one person)"
    assert interval(paired_bootstrap(np.zeros(0))) == ""


def test_the_bootstrap_of_equal_differences_has_no_width_and_of_nobody_no_value() -> None:
    same = paired_bootstrap(np.full(7, 0.25))
    assert (same.mean, same.low, same.high) == (0.25, 0.25, 0.25)
    assert np.isnan(paired_bootstrap(np.zeros(0)).mean)
