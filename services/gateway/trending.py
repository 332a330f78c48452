"""What is trending, kept in memory: it outlives the loss of every other service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.ports import Features
from shared.errors import WarmstartError
from shared.telemetry.logs import logger

_LOG = logger("gateway.trending")

Trending = tuple[tuple[str, float], ...]


class TrendingSnapshot:
    """The last answer of features for each domain, refreshed in the background."""

    def __init__(
        self,
        features: Features,
        catalogue: Catalogue,
        domains: Sequence[str],
        *,
        items: int,
        interval_s: float,
    ) -> None:
        self._features = features
        self._catalogue = catalogue
        self._limit = items
        self._interval_s = interval_s
        self._lists: dict[str, Trending] = dict.fromkeys(domains, ())
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._refresh())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def top(self, domain: str) -> Trending:
        """Items with weights in (0, 1], best first; empty where nobody has done anything yet."""
        return self._lists[domain]

    def rest(self, domain: str) -> Trending:
        """What fills `top` up, so that some list there always is: the newest items that nobody has chosen of
        late, with small weights that fall."""
        trending = self._lists[domain]
        missing = self._limit - len(trending)
        if missing <= 0:
            return ()
        known = {item_id for item_id, _ in trending}
        newest = self._catalogue.of(domain).newest(self._limit)
        added = [item_id for item_id in newest if item_id not in known][:missing]
        least = trending[-1][1] if trending else 1.0
        return tuple((i, least * math.exp2(-(n + 1))) for n, i in enumerate(added))

    async def look(self) -> None:
        """Asks about every domain, once."""
        for domain in self._lists:
            try:
                self._lists[domain] = tuple(await self._features.trending(domain, self._limit))
            except WarmstartError as error:
                _LOG.debug("trending not refreshed", domain=domain, error=str(error))

    async def _refresh(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                _LOG.exception("refreshing trending failed")  # a bug must not end the refreshing
            await asyncio.sleep(self._interval_s)
