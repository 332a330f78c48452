from __future__ import annotations

from collections.abc import Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Adapted, Draft, Found, Scores
from services.gateway.filters import Filter, keep_all
from services.gateway.ports import Hits, LikenessSearch, ScoreAlso, Scoring, Search, VectorSearch
from services.gateway.posterior import explore_query
from services.gateway.query import NO_FILTER
from services.gateway.rng import Rng

EXPLORATION = "exploration"
RECENT_ITEMS = "recent_items"
MAX_RETRIEVED = 5000  # the contract's limits of RetrieveItems
MAX_EXCLUDED = 20_000
# Candidates kept for each place, so that diversity and quotas have something to choose from.
_HEADROOM = 3
_WIDER = 4
# Scores come along with a retrieval of so many items at most; of more, the filters may keep few.
_MOST_SCORED = 1000


class ModelSource:
    """What the model thinks best: retrieved by the person's taste, or all matches of a narrow filter.

    A wide filter is met by fetching more, again and wider while too little of it passes. The same call
    retrieves an exploration pool by a query drawn from the adapter's posterior, and scores all candidates,
    also those that other sources found before.
    """

    name = "model"
    comes_last = True  # its one call also scores what the others found

    def __init__(
        self,
        scoring: Scoring,
        catalogue: Catalogue,
        filters: Sequence[Filter],
        *,
        candidates: int,
        narrow: int,
        explore_pool: int,
        rng: Rng,
    ) -> None:
        self._scoring = scoring
        self._catalogue = catalogue
        self._filters = filters
        self._candidates = candidates
        self._narrow = narrow
        self._explore_pool = explore_pool
        self._rng = rng

    async def find(self, draft: Draft) -> Sequence[Found]:
        if draft.taste is None or draft.query.candidate_item_ids:
            return []
        source = self.name if isinstance(draft.taste, Adapted) else RECENT_ITEMS
        matches = self._catalogue.of(draft.domain).select(draft.query.filter, self._narrow)
        if matches is not None:
            return [Found(source, matches)]
        enough = min(MAX_RETRIEVED, max(self._candidates, _HEADROOM * draft.query.page_size))
        limit = min(MAX_RETRIEVED, enough + len(draft.page.shown))
        # What the scorer will want: scores of all candidates, and sketches of the liked items.
        also: ScoreAlso | None = ScoreAlso((*draft.candidates, *draft.liked), draft.taste)
        while True:
            best, pool, scores = await self._retrieve(draft, limit, also)
            passing = self._passing(draft, best.item_ids)
            exhausted = len(best.item_ids) < limit or limit == MAX_RETRIEVED
            if exhausted or len(passing) >= min(enough, 2 * draft.query.page_size):
                break
            limit = min(MAX_RETRIEVED, _WIDER * limit)
            also = None  # most of what is found from here on will be left out: the scorer asks for the rest
        found = [Found(source, passing[:enough], scores=scores)]
        return [*found, Found(EXPLORATION, pool.item_ids)] if pool else found

    def _passing(self, draft: Draft, item_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Those that the filters will keep; not worth a look where they surely keep most."""
        mirror = self._catalogue.of(draft.domain)
        mostly_available = 2 * mirror.num_available > len(mirror)
        if draft.query.filter == NO_FILTER and not draft.page.shown and mostly_available:
            return item_ids
        return keep_all(self._filters, draft, item_ids, _said_later)

    async def _retrieve(
        self, draft: Draft, limit: int, also: ScoreAlso | None
    ) -> tuple[Hits, Hits | None, Scores | None]:
        searches = list(self._searches(draft, limit))
        version = draft.model.version if draft.model else ""
        exclude = sorted(draft.hidden)[:MAX_EXCLUDED]
        if also and sum(s.limit for s in searches) + len(also.item_ids) > _MOST_SCORED:
            also = None
        trail = draft.taste.user.trail if isinstance(draft.taste, Adapted) else None
        answer = await self._scoring.retrieve(
            draft.domain, searches, version=version, exclude=exclude, also=also, trail=trail
        )
        return answer.hits[0], answer.hits[1] if len(searches) > 1 else None, answer.scores

    def _searches(self, draft: Draft, limit: int) -> Sequence[Search]:
        taste = draft.taste
        if not isinstance(taste, Adapted):
            assert taste is not None  # noqa: S101 - find() has seen to it
            return [LikenessSearch(taste, limit)]
        best = VectorSearch(taste.mixed_query, limit)
        uncertainty = taste.user.uncertainty
        if not draft.explores or uncertainty is None or not self._explore_pool:
            return [best]
        drawn = explore_query(
            taste.mixed_query, taste.drawn_weights, uncertainty, self._rng(draft, EXPLORATION)
        )
        return [best, VectorSearch(drawn, self._explore_pool)]


def _said_later(name: str, error: Exception) -> None:
    """The pipeline runs the same filters over all candidates, and names those that fail."""
