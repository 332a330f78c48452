"""Where candidates come from. Sources run side by side, in one or two rounds; one that fails is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.gateway.draft import Draft, Found


class Source(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def comes_last(self) -> bool:
        """Whether it is asked after the others, with what they found as the draft's candidates."""
        ...

    async def find(self, draft: Draft) -> Sequence[Found]:
        """Candidates, best first, none of `draft.hidden`; empty where the source has nothing to say."""
        ...
