"""What scores gain by what is chosen now, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shared.trends import Trends

# Of 7 events: 5 on the first, 2 on the second, none on the third. One more each, and one that was not there:
# shares of 6, 3, 1 and 1 in 11.
TRENDS = Trends(np.array([5.0, 2.0, 0.0], np.float32), prior=11.0)


def test_shares_count_every_item_once_more_and_so_one_that_is_new() -> None:
    np.testing.assert_allclose(TRENDS.shares, np.array([6, 3, 1, 1]) / 11)


def test_a_share_now_is_between_that_of_recent_events_and_that_of_the_long_run() -> None:
    """Three recent events on the second, one on a new item; the long run counts as eleven. Shares now are
    (0 + 6, 3 + 3, 0 + 1, 1 + 1) of 15, in the long run 6, 3, 1, 1 of 11."""
    now, long = np.array([6, 6, 1, 2]) / 15, np.array([6, 3, 1, 1]) / 11
    more, of_all = TRENDS.lifts(np.array([1, -1], np.int32), np.array([3.0, 1.0], np.float32))
    gained = np.full(4, of_all)
    gained[[1, 3]] += more
    np.testing.assert_allclose(gained, np.log(now / long), rtol=1e-6)


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
