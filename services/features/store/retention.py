"""What is kept for a number of days only, and then goes, bit by bit in the background.

events       leave history and seen set so many days after they happened, and the log as well, exported or not
impressions  leave their log so many days after they happened
people       are erased as DeleteUser does once no event, profile or relation of theirs has arrived for so
             many days; relations of others to them do not count

An item whose events have gone is no longer seen: it may be listed again. What events weighed in trends stays,
a sum that names nobody and halves by itself. A pass over everything is made once an hour, by one server at a
time, in rounds of bounded length.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from prometheus_client import Counter

from services.features.store.connection import Command, Store
from services.features.store.erased_bytes import ErasedBytes
from services.features.store.keys import DomainKeys, ShardKeys
from services.features.store.lifecycle import Lifecycle, Seen
from services.features.store.packing import CUT_IMPRESSIONS, CUT_LOG
from services.features.store.scripts import script
from services.features.store.watermark import entry_order
from shared.errors import Contended

_DAY_MS = 24 * 3600 * 1000
_PASS_EVERY_MS = 3600 * 1000
_ROUND_S = 1.0
_LEASE_MS = 60 * 1000
_ENTRIES_A_LOOK = 500
_KEYS_A_LOOK = 1000


def retention_counter() -> Counter:
    """One for all domains of a server."""
    return Counter(
        "warmstart_features_retention_removed",
        "What its retention has removed, by kind: history, seen, log, impressions, people.",
        ("domain", "kind"),
        registry=None,
    )


@dataclass(frozen=True, slots=True)
class RetentionDays:
    """Days for which things are kept; 0 = for ever. idle: days without anything new of a person."""

    events: int = 0
    impressions: int = 0
    idle: int = 0


class Retention:
    """Of one domain."""

    def __init__(
        self,
        store: Store,
        keys: DomainKeys,
        lifecycle: Lifecycle,
        erased: ErasedBytes,
        days: RetentionDays,
        removed: Counter,
    ) -> None:
        self._store, self._keys = store, keys
        self._lifecycle, self._erased = lifecycle, erased
        self._days, self._removed = days, removed
        self._pass: AsyncGenerator[int, None] | None = None
        self._due_ms = 0

    def oldest_ms(self, *, impressions: bool, now_ms: int) -> int:
        """Events that happened before this are not kept."""
        days = self._days.impressions if impressions else self._days.events
        return now_ms - days * _DAY_MS if days else 0

    async def sweep(self, *, now_ms: int) -> None:
        """One round of a pass, where one is due and no other server makes it."""
        if self._days == RetentionDays() or (self._pass is None and now_ms < self._due_ms):
            return
        lease = self._keys.lease("retention")
        if not await self._store.one("SET", lease, "held", "NX", "PX", _LEASE_MS):
            return
        try:
            await self._round(now_ms)
        finally:
            await self._store.one("UNLINK", lease)

    async def close(self) -> None:
        if self._pass is not None:
            await self._pass.aclose()

    async def _round(self, now_ms: int) -> None:
        until, removed = time.monotonic() + _ROUND_S, 0
        self._pass = self._pass or self._whole(now_ms)
        try:
            async for step in self._pass:
                removed += step
                if time.monotonic() > until:
                    return
        except Exception:
            self._pass = None  # the next round begins anew
            raise
        finally:
            if removed:
                await self._erased.note(now_ms)
        self._pass, self._due_ms = None, now_ms + _PASS_EVERY_MS

    async def _whole(self, now_ms: int) -> AsyncGenerator[int, None]:
        """A pass over everything; yields after each step how much it removed."""
        events = self.oldest_ms(impressions=False, now_ms=now_ms)
        impressions = self.oldest_ms(impressions=True, now_ms=now_ms)
        for shard in self._keys.shards:
            for log, cut, oldest, kind in (
                (shard.log, CUT_LOG, events, "log"),
                (shard.impressions, CUT_IMPRESSIONS, impressions, "impressions"),
            ):
                if oldest:
                    async with aclosing(self._log(shard, log, cut, oldest, kind)) as steps:
                        async for step in steps:
                            yield step
        if not (events or self._days.idle):
            return
        async with aclosing(self._store.scanned(self._keys.people_pattern, _KEYS_A_LOOK)) as found:
            async for names in found:
                yield await self._people([self._keys.person_of(name) for name in names], events, now_ms)

    async def _log(
        self, shard: ShardKeys, log: str, cut: str, oldest_ms: int, kind: str
    ) -> AsyncGenerator[int, None]:
        first = "-"
        while first:
            args: Command = [first, _ENTRIES_A_LOOK, oldest_ms, cut]
            more, removed = await self._store.script(script("expire_log"), [log, shard.state], args)
            self._count(kind, removed)
            yield removed
            first = f"({more.decode()}" if more else ""

    async def _people(self, user_ids: Sequence[str], oldest_ms: int, now_ms: int) -> int:
        calls = []
        for user_id in user_ids:
            keys = self._keys.shard(user_id)
            calls.append(
                ([keys.person(user_id), keys.history(user_id), keys.seen(user_id)], [max(0, oldest_ms)])
            )
        idle_since = now_ms - self._days.idle * _DAY_MS if self._days.idle else 0
        total = 0
        replies = await self._store.scripts(script("expire_person"), calls)
        for user_id, (events, seen, arrivals, changes, described, *last) in zip(
            user_ids, replies, strict=True
        ):
            self._count("history", events)
            self._count("seen", seen)
            total += events + seen
            latest = max([int(described), *(entry_order(entry)[0] for entry in last if entry)])
            if 0 < latest < idle_since:
                unless = Seen(arrivals.decode(), changes.decode(), described.decode())
                with suppress(Contended):  # is just being merged: the next pass
                    if await self._lifecycle.erase(user_id, now_ms=now_ms, unless_changed=unless):
                        self._count("people", 1)
        return total

    def _count(self, kind: str, removed: int) -> None:
        if removed:
            self._removed.labels(self._keys.domain, kind).inc(removed)
