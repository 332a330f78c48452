from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft
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
        latest = dict(zip(history.item_ids, history.actions.tolist(), strict=True))
        return tuple(i for i in item_ids if latest.get(i) != Action.DISLIKE)
