from __future__ import annotations

from collections.abc import Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Draft, Found
from services.gateway.sources import hidden


class FreshSource:
    """The newest items of the last `window_s` seconds; scoring orders them by fit."""

    name = "fresh"

    def __init__(self, catalogue: Catalogue, *, limit: int, window_s: float) -> None:
        self._catalogue = catalogue
        self._limit = limit
        self._window_ms = int(window_s * 1000)

    async def find(self, draft: Draft) -> Sequence[Found]:
        if draft.query.candidate_item_ids:
            return []
        mirror = self._catalogue.of(draft.domain)
        barred = hidden(draft)
        newest = mirror.newest(self._limit + min(len(barred), self._limit), draft.now_ms - self._window_ms)
        return [Found(self.name, tuple(i for i in newest if i not in barred)[: self._limit])]
