from __future__ import annotations

from services.gateway.draft import Draft, Rung
from services.gateway.fallbacks import fallen
from services.gateway.last_good import LastGoodLists
from services.gateway.odds import log_odds
from services.gateway.trending import TrendingSnapshot


class LastGoodFallback:
    """The ladder's third rung: the person's last good list, then what is trending."""

    name = "last_good_list"

    def __init__(self, lists: LastGoodLists, trending: TrendingSnapshot) -> None:
        self._lists = lists
        self._trending = trending

    def fall(self, draft: Draft) -> Draft:
        # Without features, what the person has acted on since is not known: the ladder goes on to trending.
        # Of somebody whose list is ephemeral none is kept.
        known = draft.person_known and not draft.query.ephemeral
        kept = self._lists.get(draft.domain, draft.query.user_id) if known else None
        if kept is None:
            return draft
        best = tuple(zip(kept.item_ids, log_odds(kept.base, kept.bounds).tolist(), strict=True))
        return fallen(draft, Rung.LAST_GOOD_LIST, best, self._trending)
