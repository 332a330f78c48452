"""The items most alike to given ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from services.gateway.catalogue.details import ItemDetails
from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Likeness
from services.gateway.ports import LikenessSearch, Scoring
from services.gateway.query import SimilarQuery
from services.gateway.sources.model import MAX_RETRIEVED
from shared.domain import Item, ModelRef
from shared.errors import NotFound, WarmstartError

_WIDER = 4


@dataclass(frozen=True, slots=True)
class SimilarItems:
    """`items`: (id, cosine), most alike first. `details`: where the request asked for them."""

    items: tuple[tuple[str, float], ...]
    model: ModelRef
    details: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SimilarItemsFinder:
    """Retrieves by the mean output row; a narrow filter's matches are all scored instead."""

    scoring: Scoring
    catalogue: Catalogue
    details: ItemDetails
    narrow: int

    async def find(self, query: SimilarQuery) -> SimilarItems:
        """Raises NotFound where none of the items is known, Unavailable where scoring is away."""
        mirror = self.catalogue.of(query.domain)
        if mirror.complete and all(mirror.get(i) is None for i in query.item_ids):
            raise NotFound(
                f"item_ids: domain {query.domain!r} has none of them, got {list(query.item_ids)[:10]!r}"
            )
        like = Likeness(query.item_ids, (1.0,) * len(query.item_ids))
        matches = mirror.select(query.filter, self.narrow)
        if matches is None:
            pairs, model = await self._retrieve(query, like)
        else:
            pairs, model = await self._score(query, like, matches)
        best = tuple(pairs[: query.page_size])
        return SimilarItems(best, model, await self._describe(query, best))

    async def _retrieve(
        self, query: SimilarQuery, like: Likeness
    ) -> tuple[list[tuple[str, float]], ModelRef]:
        """Fetches more, again and wider, while too few pass the filter."""
        exclude = sorted({*query.item_ids, *query.exclude_item_ids})
        limit = min(MAX_RETRIEVED, 2 * query.page_size + 50)
        while True:
            answer = await self.scoring.retrieve(
                query.domain, [LikenessSearch(like, limit)], version="", exclude=exclude
            )
            hits = answer.hits[0]
            pairs = [
                (item_id, score)
                for item_id, score in zip(hits.item_ids, hits.scores.tolist(), strict=True)
                if np.isfinite(score) and self._admits(query, item_id)
            ]
            if len(pairs) >= query.page_size or len(hits.item_ids) < limit or limit == MAX_RETRIEVED:
                return pairs, answer.model
            limit = min(MAX_RETRIEVED, _WIDER * limit)

    async def _score(
        self, query: SimilarQuery, like: Likeness, matches: tuple[str, ...]
    ) -> tuple[list[tuple[str, float]], ModelRef]:
        barred = {*query.item_ids, *query.exclude_item_ids}
        wanted = [item_id for item_id in matches if item_id not in barred]
        # With no match left the question is still which model would have answered.
        answer = await self.scoring.score(query.domain, wanted or query.item_ids[:1], version="", taste=like)
        scores = answer.raw[:, 0].tolist()
        pairs = (
            [(i, s) for i, s in zip(answer.item_ids, scores, strict=True) if np.isfinite(s)] if wanted else []
        )
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0])), answer.model

    def _admits(self, query: SimilarQuery, item_id: str) -> bool:
        item = self.catalogue.of(query.domain).get(item_id)
        return item is not None and item.available and query.filter.admits(item)

    async def _describe(self, query: SimilarQuery, best: tuple[tuple[str, float], ...]) -> Mapping[str, Item]:
        if not query.include_items:
            return {}
        ids = [item_id for item_id, _ in best]
        try:
            return await self.details.stored(query.domain, ids)
        except WarmstartError:
            # Features are away: the mirror has all but the descriptions.
            return self.details.mirrored(query.domain, ids)
