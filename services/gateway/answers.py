"""From the finished draft to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.gateway.draft import Draft, Ranking, Rung
from services.gateway.notes import Degradation, Notes, Timing
from shared.domain import Action, Event, Exposure, Item, ModelRef


@dataclass(frozen=True, slots=True)
class ListedItem:
    """One place of the answer. `task_values` are those of finite size, by task."""

    item_id: str
    position: int
    score: float
    task_values: Mapping[str, float]
    source: str
    reason: str
    propensity: float
    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    list_id: str
    items: tuple[ListedItem, ...]
    model: ModelRef | None
    shots: int
    rung: Rung
    degradations: tuple[Degradation, ...]
    next_page_token: str
    timings: tuple[Timing, ...]

    @classmethod
    def of(cls, draft: Draft, items: tuple[ListedItem, ...], notes: Notes, next_page_token: str) -> Answer:
        return cls(
            draft.page.list_id,
            items,
            draft.model,
            draft.shots,
            draft.rung,
            notes.degradations,
            next_page_token,
            notes.timings,
        )


def listed(draft: Draft, reasons: Mapping[str, str]) -> tuple[ListedItem, ...]:
    """The page's places with all that is known of them."""
    ranking = draft.ranking or Ranking()
    row_of = {item_id: row for row, item_id in enumerate(ranking.item_ids)}
    finite = ranking.scores[np.isfinite(ranking.scores)]
    # Items that nothing could score stand last, so they say the least score there is.
    least = float(finite.min()) if len(finite) else 0.0
    items = []
    for offset, place in enumerate(draft.places):
        row = row_of.get(place.item_id)
        score = float(ranking.scores[row]) if row is not None else least
        values = ranking.task_values[row].tolist() if row is not None and len(ranking.task_values) else []
        items.append(
            ListedItem(
                place.item_id,
                draft.page.start + offset,
                score if np.isfinite(score) else least,
                {t: v for t, v in zip(ranking.tasks, values, strict=True) if np.isfinite(v)}
                if values
                else {},
                place.source,
                reasons.get(place.item_id, ""),
                place.propensity,
                draft.items.get(place.item_id),
            )
        )
    return tuple(items)


def impressions(draft: Draft, items: Sequence[ListedItem]) -> tuple[Event, ...]:
    """What was shown, as events. Ids come from list and position: logging again changes nothing."""
    version = draft.model.version if draft.model else ""
    return tuple(
        Event(
            user_id=draft.query.user_id,
            item_id=item.item_id,
            action=Action.IMPRESSION,
            value=0.0,
            time_ms=draft.now_ms,
            event_id=f"{draft.page.list_id}:{item.position}",
            exposure=Exposure(
                draft.page.list_id,
                item.position,
                item.propensity,
                item.source,
                version,
                draft.query.experiment_key,
            ),
        )
        for item in items
    )
