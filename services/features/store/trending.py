"""Trending items: exponentially decayed weight of the people who chose them, by forward decay.

A person's first event on an item counts, if it is positive: nobody makes an item trend by repeating
themselves, and who was erased has no part in it.

Cormode, Shkapenyuk, Srivastava, Xu (2009), "Forward Decay: A Practical Time Decay Model for Streaming
Systems": an event of weight w at time t counts w·2^(t/half-life), and order at any moment is the order of
the sums. We keep base-2 logarithms of the sums, so nothing overflows over the years.

Weights are counted in memory and added to the store a few times a second: trending is a statistic,
and a crash may lose its last moment; the events themselves are never lost by that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.features.background import Background
from services.features.store.connection import Store
from services.features.store.keys import DomainKeys
from services.features.store.scripts import script
from shared.context.labels import signed_labels
from shared.domain import Event
from shared.errors import Unavailable
from shared.telemetry.logs import logger

_FLUSH_EVERY_S = 0.25
_ITEMS_A_SCRIPT = 500
# Which no item has: under it stands the weight of all, of items that are no longer kept too.
_ALL = ""
# After this many half-lives without an event the set says nothing any more.
_KEPT_HALF_LIVES = 100
# For how long it is remembered that a withdrawal was done. Its job goes right after it; another server may
# have read the job before.
_MARK_S = 24 * 3600
_LOG = logger("trending")


def log2_sum(a: float, b: float) -> float:
    """log2(2^a + 2^b), however large both are."""
    large, small = max(a, b), min(a, b)
    return large + math.log2(1.0 + 2.0 ** (small - large))


@dataclass(frozen=True, slots=True)
class Choice:
    """That somebody chose an item: label is positive, see `shared.context.labels`."""

    item_id: str
    time_ms: int
    label: float


def choices(events: Iterable[Event]) -> list[Choice]:
    """The events that are choices; negative ones and impressions are none."""
    chosen = list(events)
    actions = np.array([e.action for e in chosen], np.int32)
    labels = signed_labels(actions, np.array([e.value for e in chosen], np.float32)).tolist()
    return [Choice(e.item_id, e.time_ms, x) for e, x in zip(chosen, labels, strict=True) if x > 0.0]


class Trending:
    """Trending weights of one domain."""

    def __init__(self, store: Store, keys: DomainKeys, *, half_life_s: int, max_items: int) -> None:
        self._store = store
        self._key = keys.trending(half_life_s)
        self._half_life_ms = half_life_s * 1000
        self._max_items = max_items
        self._uncounted: list[Event] = []
        self._pending: dict[str, float] = {}
        self._flushing: dict[str, float] = {}
        self._flusher = Background()

    def add(self, events: Sequence[Event]) -> None:
        """Takes in people's first events on items; negative ones and impressions have no part in it."""
        self._uncounted += events

    def _count(self) -> None:
        """Weights of the events taken in. Many at once: the arithmetic on one event is all overhead."""
        events, self._uncounted = self._uncounted, []
        if events:
            self._add(choices(events), self._pending)

    def _add(self, chosen: Iterable[Choice], to: dict[str, float]) -> None:
        for choice in chosen:
            weight = choice.time_ms / self._half_life_ms + math.log2(choice.label)
            for name in (choice.item_id, _ALL):
                held = to.get(name)
                to[name] = weight if held is None else log2_sum(held, weight)

    @property
    def half_life_s(self) -> float:
        return self._half_life_ms / 1000

    async def top(self, count: int, *, now_ms: int) -> tuple[list[tuple[str, float]], float]:
        """(item, log2 of its weight as of now), best first, and the same of all events on any item, −inf
        where there are none; what is not yet flushed included."""
        self._count()
        flat = await self._store.one("ZREVRANGE", self._key, 0, count, "WITHSCORES")
        scores = {item.decode(): float(s) for item, s in zip(flat[::2], flat[1::2], strict=True)}
        waiting = {**self._flushing}
        for item_id, weight in self._pending.items():
            held = waiting.get(item_id)
            waiting[item_id] = weight if held is None else log2_sum(held, weight)
        for item_id, weight in waiting.items():
            scores[item_id] = log2_sum(scores[item_id], weight) if item_id in scores else weight
        now = now_ms / self._half_life_ms
        of_all = scores.pop(_ALL, -math.inf) - now
        ordered = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
        return [(item_id, weight - now) for item_id, weight in ordered], of_all

    async def drop(self, item_ids: Iterable[str]) -> None:
        """Takes deleted items out."""
        self._count()
        dropped = list(item_ids)
        for item_id in dropped:
            self._pending.pop(item_id, None)
        if dropped:
            await self._store.one("ZREM", self._key, *dropped, write=True)

    def start(self) -> None:
        self._flusher.start(self._flush_for_ever())

    async def close(self) -> None:
        """Adds what is still in memory."""
        await self._flusher.close()
        try:
            await self.flush()
        except Unavailable as error:
            _LOG.warning("trending_not_flushed", items=len(self._pending), error=str(error))

    async def flush(self) -> None:
        """Adds the counted weights to the store; keeps them where the store is away."""
        self._count()
        if not self._pending:
            return
        self._flushing, self._pending = self._pending, {}
        pairs = list(self._flushing.items())
        ttl_s = _KEPT_HALF_LIVES * self._half_life_ms // 1000
        try:
            for at in range(0, len(pairs), _ITEMS_A_SCRIPT):
                args: list[bytes | str | int | float] = [self._max_items + 1, ttl_s]  # and that of all
                for item_id, weight in pairs[at : at + _ITEMS_A_SCRIPT]:
                    args += (item_id, f"{weight:.17g}")
                await self._store.script(script("trend"), [self._key], args)
                for item_id, _ in pairs[at : at + _ITEMS_A_SCRIPT]:
                    del self._flushing[item_id]
        finally:
            for item_id, weight in self._flushing.items():
                held = self._pending.get(item_id)
                self._pending[item_id] = weight if held is None else log2_sum(held, weight)
            self._flushing = {}

    async def withdraw(self, token: str, chosen: Iterable[Choice]) -> None:
        """Takes out what `add` took in; under one token once, however often it is asked for."""
        weights: dict[str, float] = {}
        self._add(chosen, weights)
        pairs = list(weights.items())
        for part, at in enumerate(range(0, len(pairs), _ITEMS_A_SCRIPT), 1):
            args: list[bytes | str | int | float] = [part, _MARK_S]
            for item_id, weight in pairs[at : at + _ITEMS_A_SCRIPT]:
                args += (item_id, f"{weight:.17g}")
            await self._store.script(script("untrend"), [self._key, self._mark(token)], args)

    def _mark(self, token: str) -> str:
        return f"{self._key}:out:{token}"

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            try:
                await self.flush()
            except Unavailable:
                continue  # kept, and tried again; the callers of the store have said that it is away
