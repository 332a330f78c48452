"""Frozen value types that every part speaks. No gRPC, no TensorFlow, no IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
TimeArray = NDArray[np.int64]

DEFAULT_DOMAIN = "default"
# What a probability lies between.
PROBABILITY = (0.0, 1.0)
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class Action(IntEnum):
    """What a person did to an item. Numbers equal `warmstart.common.v1.Action`."""

    IMPRESSION = 1
    VIEW = 2
    CLICK = 3
    LIKE = 4
    DISLIKE = 5
    PURCHASE = 6
    RATING = 7
    SKIP = 8
    DWELL = 9


NUM_ACTIONS = 10  # 0 is padding


@dataclass(frozen=True, slots=True)
class Exposure:
    """How an item came to be shown."""

    list_id: str = ""
    position: int = 0
    propensity: float = 0.0
    source: str = ""
    model_version: str = ""
    experiment_key: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a person did to an item. `event_id` is never empty once past the edge."""

    user_id: str
    item_id: str
    action: Action
    value: float
    time_ms: int
    event_id: str = ""
    exposure: Exposure | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended. `created_ms` 0 = when it is first stored."""

    item_id: str
    title: str = ""
    description: str = ""
    categories: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)
    available: bool = True
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """The attribute `name` is one of `values`; with `negate`: it is absent or none of them."""

    name: str
    values: frozenset[str]
    negate: bool = False

    def holds(self, attributes: Mapping[str, str]) -> bool:
        return (attributes.get(self.name) in self.values) != self.negate


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items may appear; all conditions hold together. The default admits everything."""

    any_categories: frozenset[str] = frozenset()
    all_categories: frozenset[str] = frozenset()
    no_categories: frozenset[str] = frozenset()
    attributes: tuple[AttributeCondition, ...] = ()
    created_from_ms: int = 0

    def admits(self, item: Item) -> bool:
        return (
            (not self.any_categories or not self.any_categories.isdisjoint(item.categories))
            and self.all_categories.issubset(item.categories)
            and self.no_categories.isdisjoint(item.categories)
            and item.created_ms >= self.created_from_ms
            and all(condition.holds(item.attributes) for condition in self.attributes)
        )


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    attributes: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Relation:
    """`user_id`'s tie to `other_user_id`; weight in (0, 1]."""

    user_id: str
    other_user_id: str
    kind: str = "follows"
    weight: float = 1.0
    time_ms: int = 0
    removed: bool = False


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Where and when a list will be shown."""

    device: str = ""
    surface: str = ""
    time_ms: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A person's latest events as columns of one length n, oldest first.

    actions: [n] int32; values: [n] float32; time_ms: [n] int64, never decreasing.
    """

    item_ids: tuple[str, ...]
    actions: IntArray
    values: FloatArray
    time_ms: TimeArray

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def empty(cls) -> History:
        return cls((), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def of(cls, events: list[Event]) -> History:
        """From events in any order; ties in time keep their order."""
        ordered = sorted(events, key=lambda e: e.time_ms)
        return cls(
            tuple(e.item_id for e in ordered),
            np.array([int(e.action) for e in ordered], np.int32),
            np.array([e.value for e in ordered], np.float32),
            np.array([e.time_ms for e in ordered], np.int64),
        )

    def last(self, n: int) -> History:
        """The latest n events."""
        start = max(0, len(self) - n)
        return History(self.item_ids[start:], self.actions[start:], self.values[start:], self.time_ms[start:])


@dataclass(frozen=True, slots=True)
class CategoryShare:
    category: str
    share: float


@dataclass(frozen=True, slots=True)
class NeighbourLike:
    """A liked item of people the person is related to; weight summed over `neighbours`."""

    item_id: str
    weight: float
    neighbours: int


@dataclass(frozen=True, slots=True, eq=False)
class UserContext:
    """Everything the model may know of a person at one moment.

    content_profile, social_profile: [content_dim] float32, zeros where there is nothing.
    """

    user_id: str
    history: History
    content_profile: FloatArray
    social_profile: FloatArray
    attributes: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)
    categories: tuple[CategoryShare, ...] = ()
    total_events: int = 0
    request: RequestContext = RequestContext()


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Names one immutable published model."""

    domain: str
    version: str


class Link(IntEnum):
    """From raw score to value. Numbers equal `warmstart.common.v1.Link`."""

    IDENTITY = 1
    SIGMOID = 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """value = link(scale · raw score + offset) for a person adapted to by so many shots; scale > 0."""

    shots: int
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task of a model: how raw scores become values; `default_weight` in a mix that names none.

    calibration: by ascending numbers of shots, see `shared.calibration`; where there is none,
    value = link(raw score + offset). bounds: what values lie between; in a mix a value counts as its share of
    the way from one to the other.
    """

    name: str
    offset: float = 0.0
    link: Link = Link.IDENTITY
    default_weight: float = 1.0
    calibration: tuple[Calibration, ...] = ()
    bounds: tuple[float, float] = PROBABILITY

    @property
    def is_bounded(self) -> bool:
        """False for raw scores, which may be anything."""
        return self.link is Link.SIGMOID or self.bounds != PROBABILITY


@dataclass(frozen=True, slots=True)
class HeldModel:
    """One model that a server holds, warm and ready."""

    ref: ModelRef
    tasks: tuple[TaskInfo, ...]
    num_items: int


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """Posterior covariance of the fast weights: scale² · (I − FᵀF), F: [rank, adapt_dim] float32.

    `offset` is the first dimension of the fast weights inside a query vector.
    """

    factor: FloatArray
    scale: float
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """The items that transitions go out from, and what each counts: weights [n] float32 above 0, 1 in all."""

    item_ids: tuple[str, ...]
    weights: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedUser:
    """A person's queries over the item table; queries: [num_tasks, output_dim] float32.

    trail: of a model without transitions, and of a person without events, None."""

    model: ModelRef
    tasks: tuple[str, ...]
    queries: FloatArray
    shots: int
    uncertainty: Uncertainty | None = None
    trail: Trail | None = None

    def query(self, task: str) -> FloatArray:
        """[output_dim] float32; KeyError where the model has no such task."""
        try:
            row: FloatArray = self.queries[self.tasks.index(task)]
        except ValueError:
            raise KeyError(f"no task {task!r}; tasks: {', '.join(self.tasks)}") from None
        return row


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """An item on its way into a list. `task_scores` are values (links applied)."""

    item_id: str
    score: float
    source: str
    task_scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    propensity: float = 1.0
