from __future__ import annotations

from collections.abc import Sequence

from services.gateway.draft import Draft, Found


class FriendsSource:
    """What the people someone is related to liked of late, strongest first."""

    name = "friends"
    comes_last = False

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def find(self, draft: Draft) -> Sequence[Found]:
        if draft.query.candidate_item_ids:
            return []
        barred = draft.hidden
        likes = [like for like in draft.person.neighbour_likes if like.item_id not in barred][: self._limit]
        reasons = {like.item_id: _reason(like.neighbours) for like in likes}
        return [Found(self.name, tuple(like.item_id for like in likes), reasons)]


def _reason(neighbours: int) -> str:
    return f"Liked by {neighbours} {'person' if neighbours == 1 else 'people'} you follow"
