"""A list on its way: what each stage is given and gives on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import chain
from types import MappingProxyType

import numpy as np

from services.gateway.odds import Bounds
from services.gateway.query import ListQuery, Pin
from shared.domain import (
    PROBABILITY,
    AdaptedUser,
    FloatArray,
    History,
    IntArray,
    Item,
    ModelRef,
    NeighbourLike,
    TaskInfo,
    UserContext,
)


class Rung(IntEnum):
    """The rungs of the ladder, best first. Numbers equal `warmstart.gateway.v1.Rung`."""

    ADAPTED = 1
    RECENT_ITEMS = 2
    LAST_GOOD_LIST = 3
    TRENDING = 4


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """What features know of a person now. `seen`: items acted on."""

    context: UserContext
    seen: frozenset[str] = frozenset()
    neighbour_likes: tuple[NeighbourLike, ...] = ()

    @classmethod
    def from_request(cls, query: ListQuery, list_id: str) -> Person:
        """Known by the events that the request brings, if any, and nothing else. Whose list is ephemeral goes
        by the list's random id: other services want one, and know nobody by it."""
        nothing = np.zeros(0, np.float32)
        context = UserContext(
            list_id if query.ephemeral else query.user_id,
            History.of(list(query.events)),
            nothing,
            nothing,
            request=query.context,
        )
        return cls(context, query.acted_on)


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """Ranking by adapted queries.

    tasks: how each task's raw score becomes its value, in the order of `user.tasks`;
    weights: [num_tasks] float32, the mix.
    """

    user: AdaptedUser
    tasks: tuple[TaskInfo, ...]
    weights: FloatArray

    @property
    def mixed_query(self) -> FloatArray:
        """The mix of the tasks' queries: [output_dim] float32."""
        mixed: FloatArray = self.weights @ self.user.queries
        return mixed

    @property
    def drawn_weights(self) -> FloatArray:
        """The mix without tasks in stars, [num_tasks] float32: the posterior is of choices."""
        kept = np.array([task.bounds == PROBABILITY for task in self.tasks], np.float32)
        return self.weights * kept


@dataclass(frozen=True, slots=True)
class Likeness:
    """Ranking by the mean output row of items, weighted by signed labels."""

    item_ids: tuple[str, ...]
    weights: tuple[float, ...]


Taste = Adapted | Likeness


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Items with rows (n of them), in the order asked; `missing`: those asked for that have none.

    raw: [n, T] float32, columns named by `tasks`; sketches: [n, d] float32, unit length.
    """

    item_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    raw: FloatArray
    sketches: FloatArray
    model: ModelRef
    missing: tuple[str, ...] = ()

    def cover(self, item_ids: Iterable[str]) -> bool:
        """Whether scores of all of these were asked for."""
        return set(self.item_ids).union(self.missing).issuperset(item_ids)


@dataclass(frozen=True, slots=True)
class Found:
    """What one source found, best first. `reasons`: by item id, where the source knows one; `scores`: where
    it has them already."""

    source: str
    item_ids: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of which list: first position, and marks (see `tokens.item_mark`) of items shown before."""

    list_id: str
    start: int = 0
    shown: frozenset[int] = frozenset()


def _no_floats() -> FloatArray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Candidates and what is known of them; all arrays are in the order of `item_ids` (n).

    base         [n] float32, the mix of task values; NaN where the item has no rows
    scores       [n] float32, `base` with boosts; what the ranking goes by
    task_values  [n, T] float32, links applied; columns named by `tasks`
    sketches     [n, d] float32, unit length, or None where there are none
    bounds       what `base` lies between, see `odds.py`
    """

    item_ids: tuple[str, ...] = ()
    base: FloatArray = field(default_factory=_no_floats)
    scores: FloatArray = field(default_factory=_no_floats)
    tasks: tuple[str, ...] = ()
    task_values: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    sketches: FloatArray | None = None
    bounds: Bounds | None = None

    def only(self, kept: tuple[str, ...]) -> Ranking:
        """The ranking of some of its items, in the order given."""
        if kept == self.item_ids:
            return self
        row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        rows = [row_of[item_id] for item_id in kept]
        values = self.task_values[rows] if len(self.task_values) else self.task_values
        sketches = self.sketches[rows] if self.sketches is not None else None
        return Ranking(kept, self.base[rows], self.scores[rows], self.tasks, values, sketches, self.bounds)

    def best_first(self) -> IntArray:
        """[n] int32: places by score, largest first; non-finite ones last; ties by item id."""
        scores = np.where(np.isfinite(self.scores), self.scores, -np.inf)
        order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[order]
        if (sorted_scores[1:] == sorted_scores[:-1]).any():
            ids, values = self.item_ids, scores.tolist()
            order = np.array(sorted(order.tolist(), key=lambda i: (-values[i], ids[i])), np.int32)
        return order.astype(np.int32)


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the page: an item, the source that put it there and with which probability."""

    item_id: str
    source: str
    propensity: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """The state of one request. Stages never change it: they return a new one.

    pins          those whose items are available
    hidden        items that surely will not be listed: not worth a candidate's place
    candidates    ids still in the running; sources says by which source each was first found
    liked         recently liked items, newest first, with their sketches [len, d]: for reasons
    ranking       None until some rung has ranked the candidates
    order         [n] int32: the ranking after diversity and quotas, best first
    """

    query: ListQuery
    page: Page
    person: Person
    now_ms: int
    pins: tuple[Pin, ...] = ()
    exploration_rate: float = 0.0
    person_known: bool = False
    taste: Taste | None = None
    rung: Rung = Rung.TRENDING
    hidden: frozenset[str] = frozenset()
    found: tuple[Found, ...] = ()
    candidates: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    liked: tuple[str, ...] = ()
    liked_sketches: FloatArray | None = None
    ranking: Ranking | None = None
    order: IntArray = field(default_factory=lambda: np.zeros(0, np.int32))
    places: tuple[Place, ...] = ()
    model: ModelRef | None = None
    items: Mapping[str, Item] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        return self.query.domain

    @property
    def explores(self) -> bool:
        return self.exploration_rate > 0.0

    @property
    def shots(self) -> int:
        return self.taste.user.shots if isinstance(self.taste, Adapted) else 0

    @property
    def pinned(self) -> frozenset[str]:
        return frozenset(pin.item_id for pin in self.query.pins)

    def with_hidden(self) -> Draft:
        """Hides what is seen, excluded or pinned; done once all is known of the person."""
        seen = frozenset() if self.query.include_seen else self.person.seen
        return replace(self, hidden=self.query.exclude_item_ids | self.pinned | seen)

    def members(self, source: str) -> frozenset[str]:
        """All items that a source found, whoever found them first."""
        return frozenset(i for f in self.found if f.source == source for i in f.item_ids)

    def with_found(self, found: tuple[Found, ...]) -> Draft:
        """Takes in what the sources found; the first source of an item is its source."""
        sources: dict[str, str] = {}
        for part in reversed(found):
            sources.update(dict.fromkeys(part.item_ids, part.source))
        candidates = tuple(dict.fromkeys(chain.from_iterable(part.item_ids for part in found)))
        return replace(self, found=found, sources=sources, candidates=candidates)
