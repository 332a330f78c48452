"""What a caller asks for, once past the edge: every value here keeps the contract's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shared.domain import Action, Event, ItemFilter, RequestContext
from shared.limits import DEFAULT_PAGE_SIZE

NO_FILTER = ItemFilter()
NO_CONTEXT = RequestContext()
_NO_WEIGHTS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Boost:
    """Multiplies the odds of items by `factor`; exactly one of the targets is set."""

    factor: float
    item_id: str = ""
    category: str = ""
    attribute: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """Puts an item at a position of the whole list, from 0."""

    item_id: str
    position: int


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One request for a list. None = the server's default.

    user_id: "" where the list is `ephemeral`: for somebody of whom nothing is read or kept.
    `digest` stands for all fields but page_token: the pages of one list must agree on it.
    """

    domain: str
    user_id: str
    page_size: int = DEFAULT_PAGE_SIZE
    page_token: str = ""
    candidate_item_ids: tuple[str, ...] = ()
    exclude_item_ids: frozenset[str] = frozenset()
    filter: ItemFilter = NO_FILTER
    boosts: tuple[Boost, ...] = ()
    pins: tuple[Pin, ...] = ()
    context: RequestContext = NO_CONTEXT
    diversity: float | None = None
    experiment_key: str = ""
    events: tuple[Event, ...] = ()
    task_weights: Mapping[str, float] = field(default_factory=lambda: _NO_WEIGHTS)
    exploration_rate: float | None = None
    include_seen: bool = False
    include_items: bool = False
    disable_adaptation: bool = False
    ephemeral: bool = False
    digest: str = ""

    @property
    def acted_on(self) -> frozenset[str]:
        """Items of the request's own events; being shown an item is not acting on it."""
        return frozenset(e.item_id for e in self.events if e.action is not Action.IMPRESSION)


@dataclass(frozen=True, slots=True)
class SimilarQuery:
    """One request for items alike to the given ones."""

    domain: str
    item_ids: tuple[str, ...]
    page_size: int = DEFAULT_PAGE_SIZE
    filter: ItemFilter = NO_FILTER
    exclude_item_ids: frozenset[str] = frozenset()
    include_items: bool = False
