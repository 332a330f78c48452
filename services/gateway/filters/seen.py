from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft
from services.gateway.filters import without


class SeenFilter:
    """No item the person has acted on, unless `include_seen`."""

    name = "seen"

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        if draft.query.include_seen:
            return tuple(item_ids)
        return without(item_ids, draft.person.seen)
