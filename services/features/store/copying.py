"""Copying what is held of one person to another, who is to be them both: the greater part of a fold.

Each step may be repeated, and adds nothing then. Each raises WrongState where the target has been erased
meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b

from services.features.store.connection import Command, Store
from services.features.store.events import AppendStatus, EventLimits, EventWriter
from services.features.store.held import HeldPerson, HeldReader, first_events
from services.features.store.keys import DomainKeys
from services.features.store.locks import Fence, lost_lock
from services.features.store.people import PersonStatus, pairs
from services.features.store.records import unpack_relations
from services.features.store.relations import Relations
from services.features.store.schema import Schema
from services.features.store.scripts import script
from shared.domain import Event, Relation
from shared.errors import WrongState

_EVENTS_A_CALL = 1000
_LOCK_LOST = 8


class Copier:
    """Of one domain."""

    def __init__(
        self,
        store: Store,
        keys: DomainKeys,
        schema: Schema,
        writer: EventWriter,
        relations: Relations,
        held: HeldReader,
        *,
        limits: EventLimits,
    ) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._writer, self._relations, self._held = writer, relations, held
        self._limits = limits

    async def expect_room(self, events: Sequence[Event], target: str) -> None:
        """Refuses before anything is copied."""
        keys = self._keys.shard(target)
        erased = await self._store.one("HGET", keys.gone, self._schema.keyed_hash(target))
        if erased is not None and any(event.time_ms <= float(erased) for event in events):
            raise _target_erased()

    async def unmark(self, user_id: str) -> None:
        """Somebody who was merged into another before is here again, and takes impressions."""
        await self._store.one("UNLINK", self._keys.shard(user_id).merged(self._schema.keyed_hash(user_id)))

    async def events(
        self, events: Sequence[Event], source: str, target: str, keep_lock: Callable[[], Awaitable[None]]
    ) -> int:
        """How many were new. keep_lock: raises where another may have merged the target on meanwhile."""
        copies = [replace(event, user_id=target) for event in events]
        # Of so many the target may no longer know the ids of an earlier attempt.
        if 2 * len(copies) > self._limits.dedupe:
            there = {(e.event_id, _deed(e)) for e in (await self._held.read(target)).events}
            copies = [e for e in copies if (e.event_id, _deed(e)) not in there]
        moved, known = await self._append(copies, keep_lock)
        if known:
            others = await self._not_those_of(target, known, source)
            moved += (await self._append(others, keep_lock))[0]
        return moved

    async def seen(self, seen: Sequence[tuple[str, int]], target: str, fence: Fence) -> None:
        if not seen:
            return
        keys = self._keys.shard(target)
        args: list[bytes | str | int | float] = [
            self._schema.keyed_hash(target),
            self._limits.seen,
            fence.token,
        ]
        for item_id, time_ms in seen:
            args += (time_ms, item_id)
        names = [keys.gone, keys.person(target), keys.seen(target), fence.key]
        self._expect(await self._store.script(script("see"), names, args))

    async def relations(self, held: HeldPerson, source: str, target: str, fence: Fence) -> int:
        """Both sides. Of two statements the later one counts, also that something is no more; where they are
        as old as one another, the target's. Nobody is related to themselves. How many found no room."""
        own = await self._store.one("HGETALL", self._keys.shard(target).forward(target))
        known = _by_field(unpack_relations(target, pairs(own), removed=True))
        copies = [
            replace(relation, user_id=target)
            for relation in held.relations
            if relation.other_user_id != target
            and _counts(relation, known.get((relation.kind, relation.other_user_id)))
        ]
        followers = [(kind, owner) for kind, owner in held.followers if owner != target]
        replies = await self._store.run(
            [("HGETALL", self._keys.shard(owner).forward(owner)) for _, owner in followers]
        )
        for (kind, owner), flat in zip(followers, replies, strict=True):
            relations = _by_field(unpack_relations(owner, pairs(flat), removed=True))
            there = relations.get((kind, source))
            if there is not None and _counts(there, relations.get((kind, target))):
                copies.append(replace(there, other_user_id=target))
        statuses = await self._relations.relate(copies, by_merge=fence)
        # A relation may also be refused because the person at its other end was erased: then it has to go.
        if PersonStatus.ERASED_PERSON in statuses and await self._is_erased(target):
            raise _target_erased()
        return statuses.count(PersonStatus.TOO_MANY)

    async def link(self, held: HeldPerson, mark: str, target: str, fence: Fence) -> None:
        """Notes who goes into the target, before they go: whoever erases it takes them along. mark: the
        source's, as `Lifecycle` makes them."""
        keys = self._keys.shard(target)
        args: Command = [self._schema.keyed_hash(target), fence.token, mark, *held.merged_from]
        names = [keys.person(target), keys.merged_from(target), keys.gone, fence.key]
        self._expect(await self._store.script(script("link_merged"), names, args))

    async def chosen_by_both(self, held: HeldPerson, source: str, target: str) -> list[Event]:
        """First events of the source on items that the target had chosen for themselves: as one person they
        count once."""
        kept = first_events((await self._held.read(target)).events)
        return [
            event
            for item_id, event in first_events(held.events).items()
            if item_id in kept
            and kept[item_id].event_id not in (event.event_id, self._other_id(source, event.event_id))
        ]

    def _expect(self, reply: int) -> None:
        if reply == _LOCK_LOST:
            raise lost_lock()
        if not reply:
            raise _target_erased()

    async def _append(
        self, events: Sequence[Event], keep_lock: Callable[[], Awaitable[None]]
    ) -> tuple[int, list[Event]]:
        """How many were new, and those whose ids were known."""
        moved, known = 0, []
        for at in range(0, len(events), _EVENTS_A_CALL):
            part = events[at : at + _EVENTS_A_CALL]
            await keep_lock()
            statuses = await self._writer.append(part)
            if AppendStatus.ERASED_PERSON in statuses:
                raise _target_erased()
            moved += sum(status.is_new for status in statuses)
            known += [e for e, s in zip(part, statuses, strict=True) if s is AppendStatus.DUPLICATE]
        return moved, known

    async def _not_those_of(self, target: str, known: Sequence[Event], source: str) -> list[Event]:
        """Ids are a person's own: of the same id, those that the target has not done, under other ids."""
        there = {event.event_id: _deed(event) for event in (await self._held.read(target)).events}
        return [
            replace(event, event_id=self._other_id(source, event.event_id))
            for event in known
            if there.get(event.event_id) != _deed(event)
        ]

    def _other_id(self, source: str, event_id: str) -> str:
        """The same each time: repeating adds nothing."""
        words = self._schema.keyed_hash(source) + event_id.encode()
        return f"merged-{blake2b(words, digest_size=16).hexdigest()}"

    async def _is_erased(self, user_id: str) -> bool:
        """Erased, and nothing later has begun a new person."""
        keys = self._keys.shard(user_id)
        erased, there = await self._store.run(
            [
                ("HEXISTS", keys.gone, self._schema.keyed_hash(user_id)),
                ("EXISTS", keys.person(user_id)),
            ]
        )
        return bool(erased) and not there


def _by_field(relations: Iterable[Relation]) -> dict[tuple[str, str], Relation]:
    return {(relation.kind, relation.other_user_id): relation for relation in relations}


def _counts(relation: Relation, kept: Relation | None) -> bool:
    """Of a relation of the source: whether it says something beside the one that the target has."""
    return not relation.removed if kept is None else relation.time_ms > kept.time_ms


def _deed(event: Event) -> Event:
    """The event without how its item came to be shown, which the history does not hold."""
    return replace(event, exposure=None)


def _target_erased() -> WrongState:
    return WrongState(
        "into_user_id was erased, and what from_user_id did before that cannot be taken in under this id; "
        "nothing of from_user_id was removed: merge it into an id that was not erased, or delete it"
    )
