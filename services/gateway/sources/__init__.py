"""Where candidates come from. Sources run side by side; one that fails is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.gateway.draft import Draft, Found


class Source(Protocol):
    @property
    def name(self) -> str: ...

    async def find(self, draft: Draft) -> Sequence[Found]:
        """Candidates, best first, none of `draft.hidden`; empty where the source has nothing to say."""
        ...
