"""Following what is trending, and what of it becomes scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from structlog.testing import capture_logs

from services.scoring.trending import LiveGains, TrendFollower, Trending
from shared.errors import Unavailable
from shared.trends import HALF_LIFE_S, Trends

TRENDS = Trends(np.array([5.0, 2.0, 0.0], np.float32), prior=11.0)


def trending(*pairs: tuple[str, float], half_life_s: float = HALF_LIFE_S, more: float = 0.0) -> Trending:
    """more: on items that are not told."""
    weights = np.array([w for _, w in pairs], np.float32)
    return Trending(tuple(i for i, _ in pairs), weights, float(weights.sum()) + more, half_life_s)


class Feed:
    """Answers with what it is given, one after the other; the last for ever."""

    def __init__(self, *answers: Trending | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.closed = False

    async def trending(self, domain: str, limit: int) -> Trending:
        self.asked.append((domain, limit))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_the_latest_answer_stands_while_the_service_is_away_or_wrong() -> None:
    first, second = trending(("a", 1.0)), trending(("b", 1.0))
    feed = Feed(first, Unavailable("away"), Unavailable("away"), ValueError("a bug"), second)
    follower = TrendFollower(feed, ["shop"], limit=7, interval_s=0.001)
    assert not len(follower.latest["shop"].weights)
    with capture_logs() as logs:
        follower.start()
        await until(lambda: len(feed.asked) == 4)
        assert follower.latest["shop"] is first
        await until(lambda: follower.latest["shop"] is second)
    assert [log["event"] for log in logs] == ["trends_away", "following_trends_failed", "trends_back"]
    assert feed.asked[0] == ("shop", 7)
    await follower.stop()
    assert feed.closed


async def test_one_domain_that_is_away_does_not_keep_others_from_theirs() -> None:
    class Half(Feed):
        async def trending(self, domain: str, limit: int) -> Trending:
            if domain == "news":
                raise Unavailable("away")
            return await super().trending(domain, limit)

    found = trending(("a", 1.0))
    follower = TrendFollower(Half(found), ["news", "shop"], limit=7, interval_s=0.001)
    follower.start()
    await until(lambda: follower.latest["shop"] is found)
    await follower.stop()


async def test_without_a_feed_nothing_is_ever_trending() -> None:
    follower = TrendFollower(None, ["shop"], limit=7, interval_s=0.001)
    follower.start()
    await follower.stop()
    assert not len(follower.latest["shop"].weights)


class Items:
    """Three items of the artifact, the second gone, and two new ones; slots in an order of their own."""

    def trained_rows(self, item_ids: Any) -> Any:
        return np.array([{"a": 0, "b": 1, "c": 2}.get(i, -1) for i in item_ids], np.int32)


class View:
    def __init__(self, number: int) -> None:
        self.number = number

    def slots_of(self, item_ids: Any) -> Any:
        return np.array([{"a": 4, "c": 1, "x": 3, "y": 0}.get(i, -1) for i in item_ids], np.int64)


def gains_of(latest: dict[str, Trending]) -> LiveGains:
    items: Any = Items()
    return LiveGains(TRENDS, HALF_LIFE_S, items, latest, "shop")


def test_items_that_are_gone_gain_nothing_but_their_events_count() -> None:
    now = trending(("a", 4.0), ("x", 2.0), ("b", 1.0), ("c", 0.5), more=0.5)
    view: Any = View(1)
    found = gains_of({"shop": now}).of(view)
    more, of_all = TRENDS.lifts(np.array([0, -1, 1, 2], np.int32), now.weights, 8.0)
    assert found.slots.tolist() == [1, 3, 4]
    np.testing.assert_array_equal(found.values, more[[3, 1, 0]])
    assert found.of_all == of_all
    assert of_all != TRENDS.lifts(np.array([0, -1, 1, 2], np.int32), now.weights)[1]


def test_gains_are_made_anew_only_where_items_or_trends_have_changed() -> None:
    latest = {"shop": trending(("a", 4.0))}
    gains = gains_of(latest)
    views: list[Any] = [View(1), View(1), View(2)]
    first = gains.of(views[0])
    assert gains.of(views[1]) is first
    second = gains.of(views[2])
    assert second is not first
    latest["shop"] = Trending.nothing()
    assert not len(gains.of(views[2]).slots)


def test_another_half_life_than_the_models_is_told_once() -> None:
    latest = {"shop": trending(("a", 4.0), half_life_s=3600.0)}
    gains = gains_of(latest)
    views: list[Any] = [View(1), View(2)]
    with capture_logs() as logs:
        for view in views:
            gains.of(view)
    assert [log["event"] for log in logs] == ["half_life_differs"]
