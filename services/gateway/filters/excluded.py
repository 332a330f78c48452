from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft


class ExcludedFilter:
    """No item of `exclude_item_ids`, and none that is pinned: those get their places later."""

    name = "excluded"

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        barred = draft.query.exclude_item_ids | draft.pinned
        return tuple(i for i in item_ids if i not in barred) if barred else tuple(item_ids)
