"""Who asks? Hydrators run in order; each adds what it knows of the person, or is skipped."""

from __future__ import annotations

from typing import Protocol

from services.gateway.draft import Draft


class Hydrator(Protocol):
    @property
    def name(self) -> str: ...

    async def hydrate(self, draft: Draft) -> Draft:
        """The draft with more known of the person. Raising leaves it as it was, named in degradations."""
        ...
