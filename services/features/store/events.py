"""The event log: atomic, deduplicated, durable appends, and what is read back of one person."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys
from services.features.store.records import event_digest, pack_event, pack_exposure
from services.features.store.schema import Schema
from services.features.store.scripts import script
from services.features.store.watermark import LogAlarm
from shared.domain import Event
from shared.errors import Overloaded

_EVENTS_A_SCRIPT = 128
_EVENTS_A_FLUSH = 4096
_FLUSHES_AT_ONCE = 2


class AppendStatus(IntEnum):
    """What became of one event; numbers as `append.lua` gives them. AGAIN: recorded, on an item that the
    person had acted on before. TOO_OLD: before what is kept, so never sent to the store. MERGED_PERSON: an
    impression from before the person was merged into another."""

    RECORDED = 1
    DUPLICATE = 2
    ERASED_PERSON = 3
    AGAIN = 4
    TOO_OLD = 5
    MERGED_PERSON = 6

    @property
    def is_new(self) -> bool:
        """Stored by this call."""
        return self in (AppendStatus.RECORDED, AppendStatus.AGAIN)


@dataclass(frozen=True, slots=True)
class EventLimits:
    """Bounds of what is kept.

    history: events a person; seen: items a person; dedupe: the latest event ids of a person that
    are recognised; log: events of a domain's log; impressions: the latest of a domain, which are kept
    apart; queued: events waiting for the store at once.
    """

    history: int = 500
    seen: int = 5000
    dedupe: int = 10_000
    log: int = 10_000_000
    impressions: int = 5_000_000
    queued: int = 50_000


# Told a call's events and what became of each, once they are stored.
Stored = Callable[[Sequence[Event], Sequence[AppendStatus]], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    events: Sequence[Event]
    stored: Stored | None
    done: asyncio.Future[list[AppendStatus]]


class EventWriter:
    """Group commit: what arrives while a flush is on its way goes together in the next one."""

    def __init__(
        self, store: Store, keys: DomainKeys, schema: Schema, limits: EventLimits, alarm: LogAlarm
    ) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._limits, self._alarm = limits, alarm
        self._waiting: deque[_Waiting] = deque()
        self._queued = 0
        self._flushes: set[asyncio.Task[None]] = set()

    async def append(self, events: Sequence[Event], *, stored: Stored | None = None) -> list[AppendStatus]:
        """Stores events in order; returns once they are as durable as the level says.

        stored: is told what was stored, also where the caller has gone by then.

        Raises Unavailable where the store is away: what of it was stored is then not known, and
        sending the same events again is safe. Raises Overloaded where too much is waiting.
        """
        if not events:
            return []
        if self._queued + len(events) > max(self._limits.queued, len(events)):
            raise Overloaded(f"events waiting for the store must be at most {self._limits.queued}")
        waiting = _Waiting(events, stored, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._queued += len(events)
        self._start_flush()
        return await waiting.done

    async def close(self) -> None:
        """Waits for what was accepted."""
        while self._flushes:
            await asyncio.gather(*self._flushes)

    def _start_flush(self) -> None:
        if self._waiting and len(self._flushes) < _FLUSHES_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._flush())
            self._flushes.add(task)
            task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._start_flush()

    async def _flush(self) -> None:
        batch = self._take()
        try:
            statuses = await self._append(batch)
        except Exception as error:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
            return
        for waiting, became in zip(batch, statuses, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(became)

    def _take(self) -> list[_Waiting]:
        """The next calls, at least one; those whose caller has gone are left out."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].events) <= _EVENTS_A_FLUSH):
            waiting = self._waiting.popleft()
            self._queued -= len(waiting.events)
            if not waiting.done.cancelled():
                batch.append(waiting)
                size += len(waiting.events)
        return batch

    async def _append(self, batch: Sequence[_Waiting]) -> list[list[AppendStatus]]:
        events = [event for waiting in batch for event in waiting.events]
        groups = self._groups(events)
        replies = await self._store.scripts(
            script("append"), [self._call(shard, [events[n] for n in places]) for shard, places in groups]
        )
        statuses = [AppendStatus.RECORDED] * len(events)
        for (_, places), (digits, *_) in zip(groups, replies, strict=True):
            for place, digit in zip(places, digits, strict=True):
                statuses[place] = AppendStatus(digit - 48)
        rest = iter(statuses)
        by_call = [list(islice(rest, len(waiting.events))) for waiting in batch]
        for waiting, became in zip(batch, by_call, strict=True):
            if waiting.stored is not None:
                waiting.stored(waiting.events, became)
        for (shard, _), (_, trimmed, length) in zip(groups, replies, strict=True):
            await self._alarm.observe(shard, trimmed, length)
        return by_call

    def _groups(self, events: list[Event]) -> list[tuple[int, list[int]]]:
        """(shard, places of its events), at most _EVENTS_A_SCRIPT each, in order."""
        by_shard = self._keys.places_by_shard(event.user_id for event in events)
        return [
            (shard, places[at : at + _EVENTS_A_SCRIPT])
            for shard, places in by_shard.items()
            for at in range(0, len(places), _EVENTS_A_SCRIPT)
        ]

    def _call(self, shard: int, events: list[Event]) -> tuple[list[str], Command]:
        keys = self._keys.shards[shard]
        people = {user_id: n for n, user_id in enumerate(dict.fromkeys(e.user_id for e in events), 1)}
        names = [keys.log, keys.impressions, keys.gone]
        limits = self._limits
        caps = [max(1, cap // len(self._keys.shards)) for cap in (limits.log, limits.impressions)]
        args: list[bytes | str | int | float] = [
            limits.history, limits.seen, limits.dedupe, *caps, len(people)
        ]  # fmt: skip
        for user_id in people:
            keyed_hash = self._schema.keyed_hash(user_id)
            names += (keys.person(user_id), keys.history(user_id), keys.seen(user_id), keys.dedupe(user_id))
            names += (keys.merged(keyed_hash), keys.known_of_merged(keyed_hash))
            args += (user_id, keyed_hash)
        for event in events:
            args += (
                people[event.user_id],
                int(event.action),
                event.time_ms,
                event.item_id,
                event_digest(event.event_id),
                pack_event(event),
                pack_exposure(event.exposure),
            )
        return names, args
