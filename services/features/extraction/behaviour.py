"""Behaviour: the history with what the request carries, and what it says of each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.context.standing import standing_labels
from shared.domain import Action, Event, FloatArray, History


def with_carried(history: History, carried: Sequence[Event], *, max_events: int) -> History:
    """Stored events and those of the request by time (ties: stored ones first), the latest kept.

    Impressions are no part of a history.
    """
    added = History.of([event for event in carried if event.action is not Action.IMPRESSION])
    if not len(added):
        return history
    times = np.concatenate([history.time_ms, added.time_ms])
    order = np.argsort(times, kind="stable")
    item_ids = history.item_ids + added.item_ids
    merged = History(
        tuple(item_ids[place] for place in order),
        np.concatenate([history.actions, added.actions])[order],
        np.concatenate([history.values, added.values])[order],
        times[order],
    )
    return merged.last(max_events)


def seen_with_carried(seen: Sequence[str], carried: Sequence[Event], *, max_items: int) -> tuple[str, ...]:
    """Seen items, newest first, with those of the request in front."""
    acted = [event for event in carried if event.action is not Action.IMPRESSION]
    newest = [event.item_id for event in sorted(acted, key=lambda e: -e.time_ms)]
    return tuple(dict.fromkeys([*newest, *seen]))[:max_items]


def labels_of(history: History) -> FloatArray:
    """Signed label of each event, 0 for those that no longer stand. [n] float32."""
    return standing_labels(history.item_ids, history.actions, history.values)
