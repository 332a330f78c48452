from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft
from services.gateway.tokens import item_mark


class ShownFilter:
    """No item of the pages before."""

    name = "shown"

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        shown = draft.page.shown
        return tuple(i for i in item_ids if item_mark(i) not in shown) if shown else tuple(item_ids)
