"""How good is each candidate? Scorers run in order; each is skipped where it fails."""

from __future__ import annotations

from typing import Protocol

from services.gateway.draft import Draft


class Scorer(Protocol):
    @property
    def name(self) -> str: ...

    async def score(self, draft: Draft) -> Draft:
        """The draft with its ranking made or changed."""
        ...
