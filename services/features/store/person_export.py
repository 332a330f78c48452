"""All that is held of one person, page by page: big histories do not fit in one message.

A page begins after a place in the order of rows: relations, relations of others, seen items, events, each in
an order of its own that what is written meanwhile does not change. Each page reads the person anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from services.features.store.connection import Store
from services.features.store.held import HeldPerson, HeldReader
from services.features.store.keys import DomainKeys
from services.features.store.records import (
    relation_field,
    unpack_attributes,
    unpack_relations,
)
from shared.domain import Event, Relation, User
from shared.errors import NotFound

# A row's place: number of its list, then what orders it there.
Place = tuple[int, Any, str]
START: Place = (-1, 0, "")


@dataclass(slots=True)
class ExportPage:
    """One page; `after`: the place that the next one begins after, None at the end."""

    user: User
    total_events: int
    recognised_events: int
    merged_people: int
    relations: list[Relation] = field(default_factory=list)
    relations_from_others: list[Relation] = field(default_factory=list)
    seen: list[tuple[str, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    after: Place | None = None


class PersonExporter:
    """Exports people of one domain."""

    def __init__(self, store: Store, keys: DomainKeys, held: HeldReader) -> None:
        self._store, self._keys, self._held = store, keys, held

    async def page(self, user_id: str, after: Place, rows: int) -> ExportPage:
        """Up to `rows` rows after a place. Raises NotFound where nothing is held of the person."""
        held = await self._held.read(user_id)
        if held.is_nothing:
            raise NotFound(f"user_id must be known, got {user_id!r}")
        page = ExportPage(
            User(user_id, unpack_attributes(held.attributes)),
            held.total_events,
            held.recognised_events,
            len(held.merged_from),
        )
        followers: list[tuple[str, str]] = []
        lists = (page.relations, followers, page.seen, page.events)
        taken, last = 0, after
        for place, row in sorted(_rows(held), key=lambda found: found[0]):
            if place <= after:
                continue
            if taken == rows:
                page.after = last
                break
            last, taken = place, taken + 1
            lists[place[0]].append(row)
        page.relations_from_others = await self._of_others(user_id, followers)
        return page

    async def _of_others(self, user_id: str, followers: list[tuple[str, str]]) -> list[Relation]:
        """The other side says how strong and since when; one that is just being removed is left out."""
        fields = [relation_field(kind, user_id) for kind, _ in followers]
        packed = await self._store.run(
            [
                ("HGET", self._keys.shard(owner).forward(owner), name)
                for name, (_, owner) in zip(fields, followers, strict=True)
            ]
        )
        return [
            relation
            for name, (_, owner), value in zip(fields, followers, packed, strict=True)
            if value is not None
            for relation in unpack_relations(owner, {name.encode(): value}, removed=True)
        ]


def _rows(held: HeldPerson) -> Iterator[tuple[Place, Any]]:
    for relation in held.relations:
        yield (0, relation.kind, relation.other_user_id), relation
    for kind, owner in held.followers:
        yield (1, kind, owner), (kind, owner)
    for item_id, time_ms in held.seen:
        yield (2, -time_ms, item_id), (item_id, time_ms)
    for arrival, event in held.arrived:
        yield (3, event.time_ms, arrival), event
