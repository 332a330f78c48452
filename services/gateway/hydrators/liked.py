from __future__ import annotations

from dataclasses import replace

from services.gateway.draft import Draft
from shared.context.standing import standing_labels

_MAX_EVENTS = 100
_MAX_LIKED = 20
_LEAST_LABEL = 0.75  # likes, purchases, ratings of 4 and 5; a view or a click is not liking


class LikedHydrator:
    """The items a person liked of late, newest first: they give lists their reasons."""

    name = "liked"

    async def hydrate(self, draft: Draft) -> Draft:
        history = draft.person.context.history.last(_MAX_EVENTS)
        labels = standing_labels(history.item_ids, history.actions, history.values).tolist()
        newest_first = zip(reversed(history.item_ids), reversed(labels), strict=True)
        liked = dict.fromkeys(item_id for item_id, label in newest_first if label >= _LEAST_LABEL)
        return replace(draft, liked=tuple(liked)[:_MAX_LIKED])
