"""A person's context as of now, in two round trips.

1. history, seen set, profile and relations of the person, from the primary;
2. the neighbours' latest events, and items of the history that the mirror does not hold (yet).
Someone without neighbours whose items are all known needs only the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.features.extraction.behaviour import labels_of, seen_with_carried, with_carried
from services.features.extraction.social import (
    Circle,
    Neighbour,
    neighbours,
    neighbours_likes,
    neighbours_profile,
)
from services.features.mirror import ItemMirror
from services.features.store.connection import Store
from services.features.store.items import ItemStore, StoredItem
from services.features.store.people import People
from services.features.store.records import unpack_history
from shared.context.profiles import category_shares, content_profile
from shared.domain import Event, History, NeighbourLike, RequestContext, UserContext


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """history, seen: as stored; neighbours: people looked at; neighbour_events: latest events of each."""

    history: int = 500
    seen: int = 5000
    neighbours: int = 20
    neighbour_events: int = 50


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedUser:
    """Context with what filters and the friends' source need beside it."""

    context: UserContext
    seen_item_ids: tuple[str, ...]
    neighbour_likes: tuple[NeighbourLike, ...]


class Extractor:
    """Extracts people of one domain."""

    def __init__(
        self,
        store: Store,
        people: People,
        items: ItemStore,
        mirror: ItemMirror,
        limits: ExtractionLimits,
        *,
        content_dim: int,
    ) -> None:
        self._store, self._people, self._items, self._mirror = store, people, items, mirror
        self._limits, self._content_dim = limits, content_dim

    async def extract(self, user_id: str, carried: Sequence[Event], request: RequestContext) -> ExtractedUser:
        """request.time_ms is the moment asked for. An unknown person has an empty history."""
        limits, now_ms = self._limits, request.time_ms
        person = await self._people.read(user_id, max_seen=limits.seen)
        history = with_carried(person.history, carried, max_events=limits.history)
        people = neighbours(person.relations, now_ms, count=limits.neighbours)
        circle, extra = await self._second_trip(people, history)
        facts, labels = self._mirror.table.facts(history.item_ids, extra), labels_of(history)
        context = UserContext(
            user_id=user_id,
            history=history,
            content_profile=content_profile(facts.embeddings, labels, history.time_ms, now_ms),
            social_profile=neighbours_profile(circle, self._mirror.table, now_ms, self._content_dim),
            attributes=person.attributes,
            categories=category_shares(facts.categories, labels, history.time_ms, now_ms),
            total_events=person.total_events,
            request=request,
        )
        return ExtractedUser(
            context,
            seen_with_carried(person.seen_item_ids, carried, max_items=limits.seen),
            neighbours_likes(circle, now_ms),
        )

    async def _second_trip(
        self, people: Sequence[Neighbour], history: History
    ) -> tuple[Circle, dict[str, StoredItem]]:
        """The neighbours' latest events, and the items that the mirror lacks."""
        table = self._mirror.table
        unknown = list(dict.fromkeys(i for i in history.item_ids if i not in table))
        count = self._limits.neighbour_events
        commands = [self._people.latest_command(p.user_id, count) for p in people]
        replies, extra = await asyncio.gather(
            self._store.run(commands), self._items.read(unknown, vectors=True)
        )
        return Circle.of(people, [unpack_history(members) for members in replies]), extra
