"""Which candidates make the page, and where? Selectors run in order; each is skipped where it fails."""

from __future__ import annotations

from typing import Protocol

from services.gateway.draft import Draft


class Selector(Protocol):
    @property
    def name(self) -> str: ...

    def select(self, draft: Draft) -> Draft:
        """The draft with another order, or with the page's places."""
        ...


def free_places(draft: Draft) -> int:
    """How many places of the page are not pinned."""
    end = draft.page.start + draft.query.page_size
    return draft.query.page_size - sum(draft.page.start <= p.position < end for p in draft.pins)
