"""Streams of what training reads: the event log and people, shard by shard."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys, ShardKeys
from services.features.store.people import pairs
from services.features.store.records import (
    event_action,
    event_time_ms,
    unpack_attributes,
    unpack_event,
    unpack_relations,
)
from services.features.store.schema import Schema
from services.features.store.watermark import entry_order
from shared.domain import Action, Event, Relation, User

_ENTRIES_A_READ = 2000
_PEOPLE_A_READ = 500
# Person → time, record and exposure of each of their entries.
_People = dict[bytes, list[tuple[int, bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class EventSpan:
    """Which events: from_ms ≤ time < until_ms, 0 = no bound."""

    from_ms: int = 0
    until_ms: int = 0
    include_impressions: bool = False

    def holds(self, record: bytes) -> bool:
        time_ms = event_time_ms(record)
        if time_ms < self.from_ms or (self.until_ms and time_ms >= self.until_ms):
            return False
        return self.include_impressions or event_action(record) != Action.IMPRESSION


class Exporter:
    """Reads one domain. Holds one shard's log in memory at a time, which its cap bounds."""

    def __init__(self, store: Store, keys: DomainKeys, schema: Schema) -> None:
        self._store, self._keys, self._schema = store, keys, schema

    async def events(self, span: EventSpan, *, batch: int) -> AsyncGenerator[list[Event], None]:
        """The log, shard by shard, each person's events by time (ties as they arrived).

        Of events at the same moment, impressions come last.
        """
        for shard in self._keys.shards:
            last = b""
            people: _People = {}
            async for entry_id, fields in self._entries(shard.log):
                last = entry_id
                _note(people, fields, span)
            if span.include_impressions:
                async for _, fields in self._entries(shard.impressions):
                    _note(people, fields, span)
            await self._without_erased(shard, people)
            ready: list[Event] = []
            for user, entries in people.items():
                entries.sort(key=lambda entry: entry[0])
                user_id = user.decode()
                for _, record, exposure in entries:
                    ready.append(unpack_event(user_id, record, exposure))
                    if len(ready) >= batch:
                        yield ready
                        ready = []
            if ready:
                yield ready
            if last and span.from_ms == 0 and span.until_ms == 0:
                await self._store.one("HSET", shard.state, "exported", last, write=True)

    async def people(self) -> AsyncGenerator[tuple[list[User], list[Relation]], None]:
        """People with attributes or relations, with the relations that they own."""
        for shard in self._keys.shards:
            cursor = b"0"
            known: set[bytes] = set()  # a set that grows meanwhile may show a member twice
            while True:
                cursor, found = await self._store.one("SSCAN", shard.users, cursor, "COUNT", _PEOPLE_A_READ)
                fresh = [user for user in dict.fromkeys(found) if user not in known]
                known.update(fresh)
                if fresh:
                    yield await self._read_people(shard, [user.decode() for user in fresh])
                if cursor == b"0":
                    break

    async def trim(self, *, before_ms: int) -> int:
        """Takes events that arrived before `before_ms` and were exported out of the log; how many.

        Impressions stay: what was exported is told of the log alone, and they have a cap and days of their
        own.
        """
        exported = await self._store.run([("HGET", s.state, "exported") for s in self._keys.shards])
        commands: list[Command] = []
        for shard, last in zip(self._keys.shards, exported, strict=True):
            if last is not None:
                bound = min(entry_order(last), (before_ms, 0))
                commands.append(("XTRIM", shard.log, "MINID", "~", f"{bound[0]}-{bound[1]}"))
        return sum(await self._store.run(commands, write=True))

    async def _entries(self, log: str) -> AsyncGenerator[tuple[bytes, list[bytes]], None]:
        start = "-"
        while True:
            entries = await self._store.one("XRANGE", log, start, "+", "COUNT", _ENTRIES_A_READ)
            for entry_id, fields in entries:
                yield entry_id, fields
            if len(entries) < _ENTRIES_A_READ:
                return
            start = f"({entries[-1][0].decode()}"

    async def _without_erased(self, shard: ShardKeys, people: _People) -> None:
        """Takes out who was erased while the log was being read."""
        gone = pairs(await self._store.one("HGETALL", shard.gone))
        if not gone:
            return
        for user in list(people):
            erased_at = gone.get(self._schema.keyed_hash(user.decode()))
            if erased_at is not None:
                people[user] = [entry for entry in people[user] if entry[0] > int(float(erased_at))]

    async def _read_people(self, shard: ShardKeys, user_ids: list[str]) -> tuple[list[User], list[Relation]]:
        replies = await self._store.run(
            [("HGET", shard.person(u), "a") for u in user_ids]
            + [("HGETALL", shard.forward(u)) for u in user_ids]
        )
        described, related = replies[: len(user_ids)], replies[len(user_ids) :]
        users = [
            User(user_id, unpack_attributes(packed))
            for user_id, packed in zip(user_ids, described, strict=True)
            if packed is not None
        ]
        relations = [
            relation
            for user_id, flat in zip(user_ids, related, strict=True)
            for relation in unpack_relations(user_id, pairs(flat))
        ]
        return users, relations


def _note(people: _People, fields: list[bytes], span: EventSpan) -> None:
    """Adds a log entry that the span holds to its person's. fields: u, user, e, record, and x, exposure."""
    if span.holds(fields[3]):
        exposure = fields[5] if len(fields) > 5 else b""
        people.setdefault(fields[1], []).append((event_time_ms(fields[3]), fields[3], exposure))
