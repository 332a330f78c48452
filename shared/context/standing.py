"""What of a history still stands: people look before they judge, and change their minds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from shared.context.labels import signed_labels
from shared.domain import Action, FloatArray, IntArray

# Said outright; all other actions are only inferred from.
_EXPLICIT = frozenset((Action.LIKE, Action.DISLIKE, Action.PURCHASE, Action.RATING))


def standing_places(items: Sequence[Hashable], actions: Sequence[int]) -> list[int]:
    """Places of the events that stand, in order. items, actions: of one person's events, oldest first.

    Of the events on one item, the latest explicit one (like, dislike, purchase, rating) replaces all others,
    views after it included; only purchases stand beside each other. Where there is none, a skip replaces what
    came before it, and is replaced by what comes after it: a view and then a dislike is a dislike.
    """
    if len(set(items)) == len(items):
        return list(range(len(items)))
    events = zip(items, actions, strict=True)
    explicit = {item: action for item, action in events if action in _EXPLICIT}  # the latest of each item
    kept: list[int] = []
    latest: dict[Hashable, int] = {}  # item → the latest action of those kept
    for place in range(len(items) - 1, -1, -1):
        item, action = items[place], actions[place]
        if _stands(action, latest.get(item), explicit.get(item)):
            latest.setdefault(item, action)
            kept.append(place)
    return kept[::-1]


def _stands(action: int, later: int | None, explicit: int | None) -> bool:
    """later: the latest action on the item of those that stand so far, all of which came after this one."""
    if explicit is not None:
        return action == explicit and (later is None or action == Action.PURCHASE)
    return later is None or (action != Action.SKIP and later != Action.SKIP)


def standing_labels(items: Sequence[Hashable], actions: IntArray, values: FloatArray) -> FloatArray:
    """Signed labels, 0 for events that no longer stand. [n] float32."""
    labels = signed_labels(actions, values)
    stands = np.zeros(len(labels), bool)
    stands[standing_places(items, actions.tolist())] = True
    return np.where(stands, labels, np.float32(0.0))
