"""Social: what the people someone is related to are like, and what they liked lately."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np

from services.features.extraction.behaviour import labels_of
from services.features.mirror import ItemTable
from shared.context.profiles import decay_weights, social_profile, unit
from shared.domain import FloatArray, History, NeighbourLike, Relation, TimeArray

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


@dataclass(frozen=True, slots=True, eq=False)
class Circle:
    """The neighbours' latest events one after another, so that arithmetic runs once over all of them.

    starts: [m + 1], events starts[k]:starts[k + 1] are those of people[k]; the columns have n entries.
    """

    people: tuple[Neighbour, ...]
    starts: tuple[int, ...]
    item_ids: tuple[str, ...]
    labels: FloatArray
    time_ms: TimeArray

    @classmethod
    def of(cls, people: Sequence[Neighbour], histories: Sequence[History]) -> Circle:
        """histories: one for each of the people, oldest event first."""
        starts = (0, *accumulate(len(history) for history in histories))
        if not starts[-1]:
            return cls(tuple(people), starts, (), np.zeros(0, np.float32), np.zeros(0, np.int64))
        labels = np.concatenate([labels_of(history) for history in histories])
        times = np.concatenate([history.time_ms for history in histories])
        item_ids = tuple(chain.from_iterable(history.item_ids for history in histories))
        return cls(tuple(people), starts, item_ids, labels, times)

    def spans(self) -> Iterable[tuple[int, Neighbour, slice]]:
        """(place, person, their events) of those who have any."""
        for place, person in enumerate(self.people):
            if self.starts[place] < self.starts[place + 1]:
                yield place, person, slice(self.starts[place], self.starts[place + 1])


def neighbours_profile(circle: Circle, table: ItemTable, now_ms: int, content_dim: int) -> FloatArray:
    """Mean of the neighbours' content profiles by relation weight. [content_dim] float32."""
    profiles = np.zeros((len(circle.people), content_dim), np.float32)
    positive = np.flatnonzero(circle.labels > 0.0)
    # Rows only of what counts: look-ups cost more than the arithmetic.
    rows = table.embeddings([circle.item_ids[n] for n in positive.tolist()])
    labels, times = circle.labels[positive], circle.time_ms[positive]
    bounds = np.searchsorted(positive, circle.starts)
    for place, _, span in circle.spans():
        own = slice(bounds[place], bounds[place + 1])
        moment = min(now_ms, int(circle.time_ms[span].max()))
        weights: FloatArray = labels[own] * decay_weights(times[own], moment)
        profiles[place] = unit(weights @ rows[own])
    return social_profile(profiles, np.array([p.weight for p in circle.people], np.float32))


def neighbours_likes(circle: Circle, now_ms: int) -> tuple[NeighbourLike, ...]:
    """Liked items, strongest first (ties by id), at most MAX_NEIGHBOUR_LIKES.

    An item's weight is the sum over neighbours of relation weight times recency weight of their latest
    like of it. Recency is relative to the newest event of all where all are old.
    """
    if not circle.item_ids:
        return ()
    moment = min(now_ms, int(circle.time_ms.max()))
    recency = decay_weights(circle.time_ms, moment).tolist()
    liked = (circle.labels > _LIKED).tolist()
    totals: dict[str, tuple[float, int]] = {}
    for _, person, span in circle.spans():
        latest = {circle.item_ids[n]: recency[n] for n in range(span.start, span.stop) if liked[n]}
        for item_id, weight in latest.items():
            total, count = totals.get(item_id, (0.0, 0))
            totals[item_id] = (total + person.weight * weight, count + 1)
    ordered = sorted(totals.items(), key=lambda pair: (-pair[1][0], pair[0]))
    return tuple(NeighbourLike(i, w, n) for i, (w, n) in ordered[:MAX_NEIGHBOUR_LIKES] if w > 0.0)
