"""Leaving: erasing a person, folding one into another, all that is held of one.

Both span shards, so each can be interrupted anywhere and is finished by repeating it, or by
`repair`, which every server runs now and then:

erase   one script takes the person out of their shard, leaves the keyed hash and a job; then the
        other sides of their relations and their log entries go, last the job.
fold    the source's events are appended to the target under their own ids (so repeating adds
        nothing), then seen items and relations; last the source is taken out, but only if nothing
        was added to it meanwhile, else it begins again. No acknowledged event is lost.

What an erased person's id may do afterwards: what is dated before the erasure (or has no date)
is refused, also from importers; what is dated later begins a new person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.features.store.connection import Store
from services.features.store.events import EventWriter
from services.features.store.keys import DomainKeys
from services.features.store.people import pairs
from services.features.store.records import (
    relation_field,
    split_relation_field,
    unpack_attributes,
    unpack_event,
    unpack_history_events,
    unpack_relations,
)
from services.features.store.relations import JOB as RELATION_JOB
from services.features.store.relations import Relations
from services.features.store.schema import Schema
from services.features.store.scripts import script
from shared.domain import Action, Event, Relation, User
from shared.errors import NotFound, Unavailable

_ENTRIES_A_LOOK = 1000
_EVENTS_A_CALL = 1000
_FOLD_ATTEMPTS = 20
_ERASE_JOB = "x:"
_NOTHING, _FORGOTTEN, _BUSY, _CHANGED = range(4)


@dataclass(frozen=True, slots=True)
class PersonExport:
    """All that the store holds of one person; events by time, each once."""

    user: User
    events: tuple[Event, ...]
    relations: tuple[Relation, ...]
    seen_item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """A person as read for folding; arrivals and changes say whether it is still so later."""

    arrivals: str
    changes: str
    attributes: bytes | None
    events: list[Event]
    seen: list[tuple[str, int]]
    relations: list[Relation]
    followers: list[tuple[str, str]]


class Lifecycle:
    """Erasing, folding and exporting people of one domain."""

    def __init__(
        self,
        store: Store,
        keys: DomainKeys,
        schema: Schema,
        writer: EventWriter,
        relations: Relations,
        *,
        max_seen: int,
    ) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._writer, self._relations = writer, relations
        self._max_seen = max_seen

    async def erase(self, user_id: str, *, now_ms: int) -> bool:
        """Leaves nothing of the person but the keyed hash. False where there was nothing."""
        existed = await self._forget(user_id, self._schema.keyed_hash(user_id), now_ms) == _FORGOTTEN
        if existed:
            await self._clean(user_id)
        return existed

    async def fold(self, source: str, target: str, *, now_ms: int) -> int:
        """Moves everything of `source` to `target`; the events that were new to `target`."""
        moved = 0
        for _ in range(_FOLD_ATTEMPTS):
            held = await self._held(source)
            moved += await self._copy_events(held.events, target)
            await self._copy_seen(held.seen, target)
            await self._copy_relations(held, source, target)
            outcome = await self._forget(source, b"", now_ms, (held.arrivals, held.changes))
            if outcome == _CHANGED:
                continue
            if outcome == _FORGOTTEN:
                await self._clean(source)
            return moved
        raise Unavailable("from_user_id is being written to faster than it can be folded; try again later")

    async def export(self, user_id: str) -> PersonExport:
        """Raises NotFound where there is nothing."""
        held = await self._held(user_id)
        if not (held.events or held.seen or held.relations or held.followers or held.attributes is not None):
            raise NotFound(f"user_id must be known, got {user_id!r}")
        relations = [*held.relations]
        return PersonExport(
            User(user_id, unpack_attributes(held.attributes)),
            tuple(sorted(held.events, key=lambda e: e.time_ms)),
            tuple(relations),
            tuple(item_id for item_id, _ in reversed(held.seen)),
        )

    async def first_events(self, user_id: str) -> list[Event]:
        """Of each item that the person acted on, the first event there is of it in the order of arrival."""
        first: dict[str, Event] = {}
        for event in (await self._held(user_id)).events:
            if event.action is not Action.IMPRESSION:
                first.setdefault(event.item_id, event)
        return list(first.values())

    async def repair(self) -> int:
        """Finishes what crashed servers left unfinished; the number of jobs."""
        replies = await self._store.run([("HKEYS", shard.jobs) for shard in self._keys.shards])
        fields = [field.decode() for reply in replies for field in reply]
        for field in fields:
            if field.startswith(_ERASE_JOB):
                await self._clean(field.removeprefix(_ERASE_JOB))
        await self._relations.repair(f for f in fields if f.startswith(f"{RELATION_JOB}:"))
        return len(fields)

    async def _forget(
        self, user_id: str, keyed_hash: bytes, now_ms: int, expected: tuple[str, str] = ("", "")
    ) -> int:
        keys = self._keys.shard(user_id)
        names = [
            keys.gone, keys.jobs, keys.users, keys.person(user_id), keys.history(user_id), keys.seen(user_id),
            keys.dedupe(user_id), keys.forward(user_id), keys.back(user_id),
            keys.detached_forward(user_id), keys.detached_back(user_id),
        ]  # fmt: skip
        while True:
            outcome, _, _ = await self._store.script(
                script("forget"), names, [user_id, keyed_hash, now_ms, *expected]
            )
            if outcome != _BUSY:
                return int(outcome)
            await self._clean(user_id)

    async def _clean(self, user_id: str) -> None:
        """What `forget.lua` left to do: other sides, log entries, the job itself."""
        keys = self._keys.shard(user_id)
        forward, back = keys.detached_forward(user_id), keys.detached_back(user_id)
        job, relations = await self._store.run(
            [("HGET", keys.jobs, _ERASE_JOB + user_id), ("HKEYS", forward)]
        )
        if job is None:
            return
        await self._drop_sides(
            [
                (self._keys.shard(other).back(other), relation_field(kind, user_id))
                for kind, other in map(split_relation_field, relations)
            ]
        )
        cursor = b"0"
        while True:  # a celebrity has more followers than one reply should hold
            cursor, flat = await self._store.one("HSCAN", back, cursor, "COUNT", _ENTRIES_A_LOOK)
            await self._drop_sides(
                [
                    (self._keys.shard(owner).forward(owner), relation_field(kind, user_id))
                    for kind, owner in map(split_relation_field, flat[::2])
                ]
            )
            if cursor == b"0":
                break
        first, last, _, first_shown, last_shown = job.decode().split(" ")
        await self._sift(user_id, keys.log, first, last, erase=True)
        await self._sift(user_id, keys.impressions, first_shown, last_shown, erase=True)
        await self._store.run(
            [("UNLINK", forward), ("UNLINK", back), ("HDEL", keys.jobs, _ERASE_JOB + user_id)], write=True
        )

    async def _drop_sides(self, sides: Sequence[tuple[str, str]]) -> None:
        await self._store.run([("HDEL", key, field) for key, field in sides], write=True)

    async def _sift(
        self, user_id: str, log: str, first: str, last: str, *, erase: bool
    ) -> list[tuple[bytes, bytes]]:
        """(record, exposure) of the person's entries of a log, unless they are erased. No first: none."""
        found: list[tuple[bytes, bytes]] = []
        what = "erase" if erase else "read"
        while first:
            more, entries = await self._store.script(
                script("sift"), [log], [user_id, first, last, _ENTRIES_A_LOOK, what], write=erase
            )
            found += zip(entries[1::3], entries[2::3], strict=True)
            first = f"({more.decode()}" if more else ""
        return found

    async def _held(self, user_id: str) -> _Held:
        keys = self._keys.shard(user_id)
        person, history, seen, forward, back = await self._store.run(
            [
                ("HMGET", keys.person(user_id), "q", "r", "a", "l0", "l1", "i0", "i1"),
                ("ZRANGE", keys.history(user_id), 0, -1),
                ("ZRANGE", keys.seen(user_id), 0, -1, "WITHSCORES"),
                ("HGETALL", keys.forward(user_id)),
                ("HKEYS", keys.back(user_id)),
            ]
        )
        arrivals, changes, attributes, *entries = person
        first, last, first_shown, last_shown = ((entry or b"").decode() for entry in entries)
        logged = await self._sift(user_id, keys.log, first, last, erase=False)
        logged += await self._sift(user_id, keys.impressions, first_shown, last_shown, erase=False)
        events = [unpack_event(user_id, record, exposure) for record, exposure in logged]
        known = {event.event_id for event in events}
        # What the log has lost to its cap is older than what it has.
        trimmed = [e for e in unpack_history_events(user_id, history) if e.event_id not in known]
        return _Held(
            (arrivals or b"0").decode(),
            (changes or b"0").decode(),
            attributes,
            trimmed + events,
            [(item.decode(), int(float(t))) for item, t in zip(seen[::2], seen[1::2], strict=True)],
            unpack_relations(user_id, pairs(forward)),
            [split_relation_field(field) for field in back],
        )

    async def _copy_events(self, events: Sequence[Event], target: str) -> int:
        moved = 0
        for at in range(0, len(events), _EVENTS_A_CALL):
            part = [replace(event, user_id=target) for event in events[at : at + _EVENTS_A_CALL]]
            statuses = await self._writer.append(part)
            moved += sum(status.is_new for status in statuses)
        return moved

    async def _copy_seen(self, seen: Sequence[tuple[str, int]], target: str) -> None:
        if not seen:
            return
        args: list[bytes | str | int | float] = [self._max_seen]
        for item_id, time_ms in seen:
            args += (time_ms, item_id)
        await self._store.script(script("see"), [self._keys.shard(target).seen(target)], args)

    async def _copy_relations(self, held: _Held, source: str, target: str) -> None:
        """Both sides; what the target has already stays as it is, and nobody is related to themselves."""
        own = await self._store.one("HKEYS", self._keys.shard(target).forward(target))
        known = {split_relation_field(field) for field in own}
        copies = [
            replace(relation, user_id=target)
            for relation in held.relations
            if relation.other_user_id != target and (relation.kind, relation.other_user_id) not in known
        ]
        followers = [(kind, owner) for kind, owner in held.followers if owner != target]
        replies = await self._store.run(
            [("HGETALL", self._keys.shard(owner).forward(owner)) for _, owner in followers]
        )
        for (kind, owner), flat in zip(followers, replies, strict=True):
            relations = {(r.kind, r.other_user_id): r for r in unpack_relations(owner, pairs(flat))}
            there = relations.get((kind, source))
            if there is not None and (kind, target) not in relations:
                copies.append(replace(there, other_user_id=target))
        await self._relations.relate(copies)
