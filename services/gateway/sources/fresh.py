from __future__ import annotations

from collections.abc import Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Draft, Found

# An item is new beside the rest of the catalogue, not while all of it is being stored for the first time.
_AFTER_THE_REST_MS = 60_000


class FreshSource:
    """The newest items of the last `window_s` seconds; scoring orders them by fit."""

    name = "fresh"
    comes_last = False

    def __init__(self, catalogue: Catalogue, *, limit: int, window_s: float) -> None:
        self._catalogue = catalogue
        self._limit = limit
        self._window_ms = int(window_s * 1000)

    async def find(self, draft: Draft) -> Sequence[Found]:
        if draft.query.candidate_item_ids:
            return []
        mirror = self._catalogue.of(draft.domain)
        barred = draft.hidden
        since_ms = max(draft.now_ms - self._window_ms, mirror.median_created_ms + _AFTER_THE_REST_MS)
        newest = mirror.newest(self._limit + min(len(barred), self._limit), since_ms)
        return [Found(self.name, tuple(i for i in newest if i not in barred)[: self._limit])]
