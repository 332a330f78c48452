from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft
from services.gateway.filters import without
from shared.domain import Action


class BlockedFilter:
    """No item whose latest word from the person is a dislike, even where seen items may appear again.

    A request that names its candidates and includes seen ones knows what it asks for: it keeps them.
    """

    name = "blocked"

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        query, history = draft.query, draft.person.context.history
        if query.candidate_item_ids and query.include_seen:
            return tuple(item_ids)
        if not (history.actions == Action.DISLIKE).any():
            return tuple(item_ids)
        latest = dict(zip(history.item_ids, history.actions.tolist(), strict=True))
        return without(item_ids, frozenset(i for i, action in latest.items() if action == Action.DISLIKE))
