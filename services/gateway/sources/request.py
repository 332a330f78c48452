from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft, Found


class RequestSource:
    """The candidates that the request names. Where it does, no other source speaks."""

    name = "request"
    comes_last = False

    async def find(self, draft: Draft) -> Sequence[Found]:
        named = draft.query.candidate_item_ids
        return [Found(self.name, named)] if named else []
