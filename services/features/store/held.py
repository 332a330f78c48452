"""All that the store holds of one person, read for folding and for export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys
from services.features.store.people import pairs
from services.features.store.records import (
    ARRIVAL_BYTES,
    split_relation_field,
    unpack_event,
    unpack_history_events,
    unpack_relations,
)
from services.features.store.scripts import script
from services.features.store.watermark import entry_order
from shared.domain import Action, Event, Relation

_ENTRIES_A_LOOK = 1000
# Where an event was found; they begin its place.
_TRIMMED, _LOGGED, _SHOWN = "0", "1", "2"


@dataclass(frozen=True, slots=True)
class Stretch:
    """From a person's first to their last entry of a log; "" = none."""

    first: str
    last: str


@dataclass(frozen=True, slots=True)
class HeldPerson:
    """A person as read at one moment; arrivals and changes say whether it is still so later.

    arrived: (place in the order of arrival, event), what the log has lost to its cap first; seen: (item,
    time_ms), oldest first; relations: removed ones too; followers: (kind, owner) of others' relations to
    this person; merged_from: marks of who was merged into them.
    """

    arrivals: str
    changes: str
    attributes: bytes | None
    total_events: int
    recognised_events: int
    arrived: list[tuple[str, Event]]
    seen: list[tuple[str, int]]
    relations: list[Relation]
    followers: list[tuple[str, str]]
    merged_from: list[str]

    @property
    def events(self) -> list[Event]:
        """As they arrived."""
        return [event for _, event in self.arrived]

    @property
    def has_acted(self) -> bool:
        """Or was related to: more than a profile."""
        kept = (self.arrived, self.seen, self.relations, self.followers, self.recognised_events)
        return any((*kept, self.merged_from))

    @property
    def is_nothing(self) -> bool:
        return not self.has_acted and self.attributes is None


class HeldReader:
    """Reads people of one domain."""

    def __init__(self, store: Store, keys: DomainKeys) -> None:
        self._store, self._keys = store, keys

    async def read(self, user_id: str) -> HeldPerson:
        keys = self._keys.shard(user_id)
        person, history, seen, recognised, forward, back, merged_from = await self._store.run(
            [
                ("HMGET", keys.person(user_id), "q", "r", "a", "n", "l0", "l1", "i0", "i1"),
                ("ZRANGE", keys.history(user_id), 0, -1),
                ("ZRANGE", keys.seen(user_id), 0, -1, "WITHSCORES"),
                ("ZCARD", keys.dedupe(user_id)),
                ("HGETALL", keys.forward(user_id)),
                ("HKEYS", keys.back(user_id)),
                ("SMEMBERS", keys.merged_from(user_id)),
            ]
        )
        arrivals, changes, attributes, total, *entries = person
        first, last, first_shown, last_shown = ((entry or b"").decode() for entry in entries)
        spans = (Stretch(first, last), Stretch(first_shown, last_shown))
        return HeldPerson(
            (arrivals or b"0").decode(),
            (changes or b"0").decode(),
            attributes,
            int(total or 0),
            int(recognised),
            await self.arrived(user_id, history, *spans),
            [(item.decode(), int(float(t))) for item, t in zip(seen[::2], seen[1::2], strict=True)],
            unpack_relations(user_id, pairs(forward), removed=True),
            [split_relation_field(field) for field in back],
            [member.decode() for member in merged_from],
        )

    async def arrived(
        self, user_id: str, history: Sequence[bytes], logged: Stretch, shown: Stretch
    ) -> list[tuple[str, Event]]:
        """Those of both logs as they arrived, after what is only in the history: the log has lost it to its
        cap, so it is older. Places are texts that sort so."""
        keys = self._keys.shard(user_id)
        entries = await self._entries(user_id, keys.log, logged, _LOGGED)
        entries += await self._entries(user_id, keys.impressions, shown, _SHOWN)
        found = [(place, unpack_event(user_id, record, x)) for place, record, x in entries]
        known = {event.event_id for _, event in found}
        events = zip(history, unpack_history_events(user_id, history), strict=True)
        trimmed = [(_TRIMMED + m[:ARRIVAL_BYTES].hex(), e) for m, e in events if e.event_id not in known]
        return sorted(trimmed, key=lambda pair: pair[0]) + found

    async def _entries(
        self, user_id: str, log: str, span: Stretch, kind: str
    ) -> list[tuple[str, bytes, bytes]]:
        """(place, record, exposure) of the person's entries of a log."""
        found: list[tuple[str, bytes, bytes]] = []
        state, first = self._keys.shard(user_id).state, span.first
        while first:
            args: Command = [user_id, first, span.last, _ENTRIES_A_LOOK, "read", ""]
            more, entries = await self._store.script(script("sift"), [log, state], args, write=False)
            places = [_place(kind, entry_id) for entry_id in entries[::3]]
            found += zip(places, entries[1::3], entries[2::3], strict=True)
            first = f"({more.decode()}" if more else ""
        return found


def _place(kind: str, entry_id: bytes) -> str:
    time_ms, number = entry_order(entry_id)
    return f"{kind}{time_ms:016x}{number:016x}"


def first_events(events: Iterable[Event]) -> Mapping[str, Event]:
    """Of each item acted on, the first event in the order of arrival: what it weighs in trends."""
    first: dict[str, Event] = {}
    for event in events:
        if event.action is not Action.IMPRESSION:
            first.setdefault(event.item_id, event)
    return first
