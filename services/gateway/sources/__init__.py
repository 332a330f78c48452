"""Where candidates come from. Sources run side by side; one that fails is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.gateway.draft import Draft, Found


class Source(Protocol):
    @property
    def name(self) -> str: ...

    async def find(self, draft: Draft) -> Sequence[Found]:
        """Candidates, best first. Nothing where the source has nothing to say to this request."""
        ...


def hidden(draft: Draft) -> frozenset[str]:
    """Items that surely will not be in the list: not worth a candidate's place."""
    seen = () if draft.query.include_seen else draft.person.seen
    return draft.query.exclude_item_ids | draft.pinned | frozenset(seen)
