"""Social: what the people someone is related to are like, and what they liked lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.features.extraction.content import history_profile
from services.features.mirror import ItemTable
from shared.context.labels import signed_labels
from shared.context.profiles import decay_weights, social_profile
from shared.domain import FloatArray, History, NeighbourLike, Relation

MAX_NEIGHBOUR_LIKES = 200
# More than a click: like, purchase, a rating of 4 or 5, a long dwell.
_LIKED = 0.5


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Someone a person is related to; weight in (0, 1] is the strongest relation's."""

    user_id: str
    weight: float


def neighbours(relations: Sequence[Relation], now_ms: int, *, count: int) -> list[Neighbour]:
    """The strongest as of `now_ms`, each person once; ties: the newer relation, then by id."""
    strongest: dict[str, Relation] = {}
    for relation in sorted(relations, key=lambda r: (-r.weight, -r.time_ms, r.other_user_id)):
        if relation.time_ms <= now_ms:
            strongest.setdefault(relation.other_user_id, relation)
    return [Neighbour(user_id, relation.weight) for user_id, relation in strongest.items()][:count]


def neighbours_profile(
    people: Sequence[Neighbour], histories: Sequence[History], table: ItemTable, now_ms: int, content_dim: int
) -> FloatArray:
    """Mean of the neighbours' content profiles by relation weight. [content_dim] float32."""
    profiles = np.zeros((len(people), content_dim), np.float32)
    for place, history in enumerate(histories):
        if len(history):
            profiles[place] = history_profile(history, table.facts(history.item_ids), now_ms)
    return social_profile(profiles, np.array([p.weight for p in people], np.float32))


def neighbours_likes(
    people: Sequence[Neighbour], histories: Sequence[History], now_ms: int
) -> tuple[NeighbourLike, ...]:
    """Liked items, strongest first (ties by id), at most MAX_NEIGHBOUR_LIKES.

    An item's weight is the sum over neighbours of relation weight times recency weight of their latest
    like of it. Recency is relative to the newest event of all where all are old.
    """
    newest = max((int(h.time_ms[-1]) for h in histories if len(h)), default=now_ms)
    moment = min(now_ms, newest)
    totals: dict[str, tuple[float, int]] = {}
    for person, history in zip(people, histories, strict=True):
        liked = signed_labels(history.actions, history.values) > _LIKED
        recency = decay_weights(history.time_ms, moment)
        latest = {history.item_ids[n]: float(recency[n]) for n in np.flatnonzero(liked).tolist()}
        for item_id, weight in latest.items():
            total, count = totals.get(item_id, (0.0, 0))
            totals[item_id] = (total + person.weight * weight, count + 1)
    ordered = sorted(totals.items(), key=lambda pair: (-pair[1][0], pair[0]))
    return tuple(NeighbourLike(i, w, n) for i, (w, n) in ordered[:MAX_NEIGHBOUR_LIKES] if w > 0.0)
