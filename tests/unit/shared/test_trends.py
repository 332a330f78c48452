"""What scores gain by what is chosen now, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shared.trends import Trends

# Of 7 events: 5 on the first, 2 on the second, none on the third. One more each: shares of 6, 3 and 1 in 10;
# one that was not there has what the second has.
TRENDS = Trends(np.array([5.0, 2.0, 0.0], np.float32), prior=10.0)


def test_shares_count_every_item_once_more_and_a_new_one_as_the_one_in_the_middle() -> None:
    np.testing.assert_allclose(TRENDS.shares, [0.6, 0.3, 0.1, 0.3], rtol=1e-6)
    assert Trends.none(0).shares.shape == (1,)


def test_a_share_now_is_between_that_of_recent_events_and_that_of_the_long_run() -> None:
    """Three recent events on the second, one on a new item; the long run counts as ten. Shares now are
    (0 + 6, 3 + 3, 0 + 1, 1 + 3) of 14, in the long run 6, 3, 1 and 3 of 10."""
    now, long = np.array([6, 6, 1, 4]) / 14, np.array([6, 3, 1, 3]) / 10
    more, of_all = TRENDS.lifts(np.array([1, -1], np.int32), np.array([3.0, 1.0], np.float32))
    gained = np.full(4, of_all)
    gained[[1, 3]] += more
    np.testing.assert_allclose(gained, np.log(now / long), rtol=1e-6)


def test_events_on_items_that_are_not_told_are_on_the_others_as_in_the_long_run() -> None:
    """Of 11 recent events 4 are told; the other 7 are on the first and the third, 6 to 1."""
    now, long = np.array([6 + 6, 3 + 3, 1 + 1, 1 + 3]) / 21, np.array([6, 3, 1, 3]) / 10
    told = np.array([1, -1], np.int32), np.array([3.0, 1.0], np.float32)
    more, of_all = TRENDS.lifts(*told, 11.0)
    gained = np.full(4, of_all)
    gained[[1, 3]] += more
    np.testing.assert_allclose(gained, np.log(now / long), rtol=1e-6)
    for less in (4.0, 3.0, None):
        other, rest = TRENDS.lifts(*told, less)
        assert rest == pytest.approx(np.log(10 / 14))
        np.testing.assert_allclose(other, TRENDS.lifts(*told)[0])


def test_where_all_are_told_what_is_left_moves_nobody_out_of_bounds() -> None:
    rows, weights = np.arange(3, dtype=np.int32), np.ones(3, np.float32)
    more, of_all = TRENDS.lifts(rows, weights, 3.5)
    assert np.isfinite(more).all()
    assert np.isfinite(of_all)


def test_the_whole_catalogue_gains_the_same() -> None:
    weights = np.array([[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]], np.float32)
    found = TRENDS.lifts_all(weights)
    more, of_all = TRENDS.lifts(np.arange(3, dtype=np.int32), weights[0])
    np.testing.assert_allclose(found[0], more + of_all, rtol=1e-5)
    np.testing.assert_array_equal(found[1], 0.0)


def test_where_recent_events_are_as_in_the_long_run_nothing_is_gained() -> None:
    some = Trends(np.array([999.0, 99.0], np.float32), prior=50.0)
    weights = 40.0 * some.shares[:2]
    more, of_all = some.lifts(np.array([0, 1], np.int32), weights)
    np.testing.assert_allclose(more + of_all, 0.0, atol=1e-3)


@pytest.mark.parametrize("trends", [Trends.none(3), Trends(TRENDS.counts)], ids=["none", "without a prior"])
def test_without_a_prior_nothing_is_gained(trends: Trends) -> None:
    more, of_all = trends.lifts(np.array([0, -1], np.int32), np.array([3.0, 2.0], np.float32))
    assert not more.any()
    assert of_all == 0.0
    assert not trends.lifts_all(np.ones((2, 3), np.float32)).any()
