"""Decayed profiles, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shared.context.profiles import (
    MAX_CATEGORY_SHARES,
    category_shares,
    content_profile,
    decay_weights,
    shares_of,
    social_profile,
    unit,
)
from shared.domain import CategoryShare

MONTH_MS = 30 * 24 * 3600 * 1000  # one half-life
NOW_MS = 10 * MONTH_MS


def times(*months_ago: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([NOW_MS - round(m * MONTH_MS) for m in months_ago], np.int64)


def floats(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_weights_halve_every_thirty_days() -> None:
    np.testing.assert_allclose(decay_weights(times(0, 1, 2), NOW_MS), [1.0, 0.5, 0.25])


def test_the_future_counts_as_now() -> None:
    np.testing.assert_allclose(decay_weights(times(-3), NOW_MS), [1.0])


def test_a_content_profile_is_the_decayed_mean_of_what_was_liked() -> None:
    """Like [1,0] now (weight 1) and [0,1] a month ago (weight 0.5): [1, 0.5] / √1.25."""
    got = content_profile(np.eye(2, dtype=np.float32), floats(1, 1), times(0, 1), NOW_MS)
    np.testing.assert_allclose(got, [0.8944272, 0.4472136], rtol=1e-6)


def test_what_was_disliked_takes_no_part_in_a_content_profile() -> None:
    got = content_profile(np.eye(2, dtype=np.float32), floats(1, -1), times(0, 0), NOW_MS)
    np.testing.assert_allclose(got, [1.0, 0.0])


def test_a_profile_of_old_events_does_not_fade() -> None:
    """All events 200 months old: decay runs from the newest event, 2^-200 would be zero in float32."""
    old_now = NOW_MS + 200 * MONTH_MS
    got = content_profile(np.eye(2, dtype=np.float32), floats(1, 1), times(0, 1), old_now)
    np.testing.assert_allclose(got, [0.8944272, 0.4472136], rtol=1e-6)


@pytest.mark.parametrize("labels", [(), (-1.0, 0.0)])
def test_a_content_profile_of_nothing_liked_is_zeros(labels: tuple[float, ...]) -> None:
    n = len(labels)
    got = content_profile(np.ones((n, 3), np.float32), floats(*labels), times(*[0] * n), NOW_MS)
    np.testing.assert_array_equal(got, np.zeros(3, np.float32))
    assert got.dtype == np.float32


def test_a_social_profile_is_the_neighbours_weighted_mean() -> None:
    """3·[1,0] + 4·[0,1] = [3, 4], of length 5."""
    got = social_profile(np.eye(2, dtype=np.float32), floats(3, 4))
    np.testing.assert_allclose(got, [0.6, 0.8], rtol=1e-6)


def test_a_social_profile_without_neighbours_is_zeros() -> None:
    np.testing.assert_array_equal(social_profile(np.zeros((0, 2), np.float32), floats()), [0.0, 0.0])


def test_an_events_weight_is_split_over_its_categories() -> None:
    """war: 1/2 + 1/2·1 (a month old) = 1; film: 1/2. Of 1.5: 2/3 and 1/3."""
    got = category_shares([("war", "film"), ("war",)], floats(1, 1), times(0, 1), NOW_MS)
    assert [c.category for c in got] == ["war", "film"]
    assert [c.share for c in got] == pytest.approx([2 / 3, 1 / 3])


def test_categories_of_disliked_items_have_no_share() -> None:
    assert category_shares([("war",), ("film",)], floats(-1, 1), times(0, 0), NOW_MS) == (
        CategoryShare("film", 1.0),
    )


def test_no_positive_event_gives_no_shares() -> None:
    assert category_shares([], floats(), times(), NOW_MS) == ()
    assert category_shares([("war",)], floats(-1), times(0), NOW_MS) == ()


def test_equal_shares_are_ordered_by_name_and_capped() -> None:
    totals = {f"c{i:02d}": 1.0 for i in reversed(range(40))}
    got = shares_of(totals)
    assert len(got) == MAX_CATEGORY_SHARES
    assert [c.category for c in got] == [f"c{i:02d}" for i in range(32)]
    assert got[0].share == pytest.approx(1 / 40)


def test_unit_length_and_zeros() -> None:
    np.testing.assert_allclose(unit(floats(3, 4)), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(unit(floats(0, 0)), [0.0, 0.0])
