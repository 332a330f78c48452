"""What the gateway needs of the other services. `clients.py` speaks gRPC; tests bring fakes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.gateway.draft import Likeness, Person, Scores, Taste
from shared.domain import (
    AdaptedUser,
    Event,
    FloatArray,
    HeldModel,
    Item,
    ModelRef,
    RequestContext,
    Trail,
    UserContext,
)


@dataclass(frozen=True, slots=True)
class CatalogueChanges:
    """One message of the item stream. `complete`: the snapshot ends here."""

    upserted: tuple[Item, ...] = ()
    deleted: tuple[str, ...] = ()
    cursor: str = ""
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not stored, and why."""

    event_id: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class VectorSearch:
    """The items with the largest product with `vector` [output_dim] float32."""

    vector: FloatArray
    limit: int


@dataclass(frozen=True, slots=True)
class LikenessSearch:
    """The items most alike to the given ones."""

    like: Likeness
    limit: int


Search = VectorSearch | LikenessSearch


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """One search's answer, best first; scores: [n] float32, raw (cosines for likeness)."""

    item_ids: tuple[str, ...]
    scores: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """One `Hits` per search, in order. scores: where they were asked for, too."""

    hits: tuple[Hits, ...]
    model: ModelRef
    scores: Scores | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreAlso:
    """Scores for what is retrieved and for these items, as `Scoring.score` gives them."""

    item_ids: tuple[str, ...]
    taste: Taste


class Features(Protocol):
    async def person(
        self, domain: str, user_id: str, events: Sequence[Event], request: RequestContext
    ) -> Person:
        """The person's context as of now, from the primary; `events` are merged in, not stored."""
        ...

    async def trending(self, domain: str, limit: int) -> Sequence[tuple[str, float]]:
        """The most engaged items now with weights in (0, 1], best first."""
        ...

    async def record(self, domain: str, events: Sequence[Event]) -> Sequence[Refusal]:
        """Stores events durably, once per event id; answers with those refused."""
        ...

    async def items(self, domain: str, item_ids: Sequence[str]) -> Sequence[Item]:
        """Stored items; unknown ids are left out."""
        ...

    def watch(self, domain: str, cursor: str) -> AsyncGenerator[CatalogueChanges, None]:
        """The catalogue and its changes. Raises StaleCursor where the cursor is too old."""
        ...


class Adaptation(Protocol):
    async def adapt(self, domain: str, context: UserContext, *, version: str, disabled: bool) -> AdaptedUser:
        """Raises ModelNotHeld. `version` empty = the champion."""
        ...

    async def serving(self, domain: str) -> Sequence[HeldModel]:
        """Versions held, the champion first."""
        ...


class Scoring(Protocol):
    async def retrieve(
        self,
        domain: str,
        searches: Sequence[Search],
        *,
        version: str,
        exclude: Sequence[str],
        also: ScoreAlso | None = None,
        trail: Trail | None = None,
    ) -> Retrieved:
        """`also`: what is retrieved is scored in the same call; `trail`: of the person whose searches these
        are. Raises ModelNotHeld."""
        ...

    async def score(self, domain: str, item_ids: Sequence[str], *, version: str, taste: Taste) -> Scores:
        """By a person's queries, or by likeness as the task "similar". Raises ModelNotHeld."""
        ...

    async def serving(self, domain: str) -> Sequence[HeldModel]:
        """Versions held, the champion first."""
        ...
