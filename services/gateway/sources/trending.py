from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from services.gateway.draft import Draft, Found
from services.gateway.trending import TrendingSnapshot


class TrendingSource:
    """What is popular now and new to the person."""

    name = "trending"
    comes_last = False

    def __init__(self, trending: TrendingSnapshot, limit: int) -> None:
        self._trending = trending
        self._limit = limit

    async def find(self, draft: Draft) -> Sequence[Found]:
        if draft.query.candidate_item_ids:
            return []
        barred = draft.hidden
        fitting = (i for i, _ in self._trending.top(draft.domain) if i not in barred)
        return [Found(self.name, tuple(islice(fitting, self._limit)))]
