from __future__ import annotations

from dataclasses import replace

from services.gateway.draft import Draft
from shared.context.labels import signed_labels

_MAX_EVENTS = 100
_MAX_LIKED = 20
_LEAST_LABEL = 0.75  # likes, purchases, ratings of 4 and 5; a view or a click is not liking


class LikedHydrator:
    """The items a person liked of late, newest first: they give lists their reasons."""

    name = "liked"

    async def hydrate(self, draft: Draft) -> Draft:
        history = draft.person.context.history.last(_MAX_EVENTS)
        labels = signed_labels(history.actions, history.values)
        latest: dict[str, float] = {}
        for item_id, label in zip(reversed(history.item_ids), reversed(labels.tolist()), strict=True):
            latest.setdefault(item_id, label)
        liked = [item_id for item_id, label in latest.items() if label >= _LEAST_LABEL]
        return replace(draft, liked=tuple(liked[:_MAX_LIKED]))
