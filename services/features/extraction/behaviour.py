"""Behaviour: the history with what the request carries, and its decayed category shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.features.extraction.content import labels_of
from services.features.mirror import ItemFacts
from shared.context.profiles import category_shares
from shared.domain import Action, CategoryShare, Event, History


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


def history_categories(history: History, facts: ItemFacts, now_ms: int) -> tuple[CategoryShare, ...]:
    """Decayed shares of the categories of positive events. facts: of the history's items, in order."""
    labels = labels_of(history)
    return category_shares(facts.categories, labels, history.time_ms, now_ms)
