"""What is trending now, as the feature service counts it, and what scores gain by it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog

from services.scoring.index import Gains
from shared.domain import FloatArray
from shared.errors import WarmstartError
from shared.items import ItemView, LiveItems
from shared.trends import Trends

# Half-lives that differ by no more than this are the same.
_SAME_HALF_LIFE = 0.01
_log = structlog.get_logger(part="trends")


@dataclass(frozen=True, slots=True, eq=False)
class Trending:
    """weights: [n] float32, events on each item as of now, decayed by half_life_s; total: on all items, also
    others than these."""

    item_ids: tuple[str, ...]
    weights: FloatArray
    total: float
    half_life_s: float

    @classmethod
    def nothing(cls) -> Trending:
        return cls((), np.zeros(0, np.float32), 0.0, 0.0)


class TrendingFeed(Protocol):
    """The feature service's trending items; see ListTrendingItems in feature_service.proto."""

    async def trending(self, domain: str, limit: int) -> Trending:
        """Raises WarmstartError where the service is away or says what cannot be."""
        ...

    async def close(self) -> None: ...


class TrendFollower:
    """What is trending in each domain, asked for every so often on one event loop. Where the service is away,
    what it said last stands."""

    def __init__(
        self, feed: TrendingFeed | None, domains: Sequence[str], *, limit: int, interval_s: float
    ) -> None:
        """feed: None = nothing is ever trending."""
        self._feed = feed
        self._limit = limit
        self._interval_s = interval_s
        self._latest: dict[str, Trending] = dict.fromkeys(domains, Trending.nothing())
        self._task: asyncio.Task[None] | None = None

    @property
    def latest(self) -> Mapping[str, Trending]:
        """By domain; each value is replaced, never changed."""
        return self._latest

    def start(self) -> None:
        if self._feed is not None:
            self._task = asyncio.create_task(self._follow(self._feed), name="follow trends")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._feed is not None:
            await self._feed.close()

    async def _follow(self, feed: TrendingFeed) -> None:
        away: set[str] = set()
        while True:
            for domain in self._latest:
                await self._look(feed, domain, away)
            await asyncio.sleep(self._interval_s)

    async def _look(self, feed: TrendingFeed, domain: str, away: set[str]) -> None:
        """away: the domains that were not told of when last asked for."""
        try:
            self._latest[domain] = await feed.trending(domain, self._limit)
        except WarmstartError as error:
            if domain not in away:
                _log.warning("trends_away", domain=domain, error=str(error))
            away.add(domain)
        except Exception:
            _log.exception("following_trends_failed", domain=domain)  # a bug must not end the following
        else:
            if domain in away:
                _log.info("trends_back", domain=domain)
            away.discard(domain)


class LiveGains:
    """What scores of one version gain by what is trending; on the one thread that scores."""

    def __init__(
        self,
        trends: Trends,
        half_life_s: float,
        items: LiveItems,
        latest: Mapping[str, Trending],
        domain: str,
    ) -> None:
        """half_life_s: that the version was trained with; latest: of a `TrendFollower`."""
        self._trends = trends
        self._half_life_s = half_life_s
        self._items = items
        self._latest = latest
        self._domain = domain
        self._made_of: tuple[int, Trending] | None = None
        self._gains = Gains.nothing()
        self._warned = False

    def of(self, view: ItemView) -> Gains:
        """Before ω. Made anew where items or trends have changed."""
        now = self._latest[self._domain]
        if self._made_of is None or self._made_of[0] != view.number or self._made_of[1] is not now:
            self._gains = self._make(view, now)
            self._made_of = view.number, now
        return self._gains

    def _make(self, view: ItemView, now: Trending) -> Gains:
        if not len(now.weights):
            return Gains.nothing()
        self._check(now.half_life_s)
        more, of_all = self._trends.lifts(self._items.trained_rows(now.item_ids), now.weights, now.total)
        slots = view.slots_of(now.item_ids)
        held = slots >= 0
        order = np.argsort(slots[held])
        return Gains(slots[held][order], more[held][order], of_all)

    def _check(self, half_life_s: float) -> None:
        """Prior and ω were found with another half-life: they still mean something, but not the best."""
        if not self._warned and abs(half_life_s / self._half_life_s - 1.0) > _SAME_HALF_LIFE:
            self._warned = True
            _log.warning("half_life_differs", features_s=half_life_s, model_s=self._half_life_s)
