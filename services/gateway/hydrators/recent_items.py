from __future__ import annotations

from dataclasses import replace

from services.gateway.draft import Draft, Likeness, Rung
from services.gateway.models import SCORING, ServingModels
from shared.context.standing import standing_labels

_MAX_ITEMS = 50


class RecentItemsHydrator:
    """The ladder's second rung: where adaptation gave no queries, likeness to the person's recent items, each
    with its signed label, stands in for them. Needs one that pulls, and a model in scoring."""

    name = "recent_items"

    def __init__(self, models: ServingModels) -> None:
        self._models = models

    async def hydrate(self, draft: Draft) -> Draft:
        if draft.taste is not None or self._models.none_held(draft.domain, SCORING):
            return draft
        history = draft.person.context.history.last(_MAX_ITEMS)
        labels = standing_labels(history.item_ids, history.actions, history.values).tolist()
        latest = {i: w for i, w in zip(history.item_ids, labels, strict=True) if w != 0.0}
        if not any(weight > 0.0 for weight in latest.values()):
            return draft
        taste = Likeness(tuple(latest), tuple(latest.values()))
        return replace(draft, taste=taste, rung=Rung.RECENT_ITEMS)
