from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft
from services.gateway.filters import without


class ExcludedFilter:
    """No item of `exclude_item_ids`, and none that is pinned: those get their places later."""

    name = "excluded"

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        return without(item_ids, draft.query.exclude_item_ids | draft.pinned)
