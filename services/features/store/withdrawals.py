"""What erased people weighed in trends is taken out a moment after the erasure, whoever dies meanwhile.

A withdrawal is a job in the person's shard, under a random token; it names items and moments, nobody. It is
due once every replica has surely added what it had counted in memory. `Withdrawals` does those of its own
server on time, `repair` those that other servers left.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from services.features.background import Background
from services.features.store.connection import Store
from services.features.store.keys import DomainKeys
from services.features.store.trending import Choice, Trending, choices
from shared.domain import Event
from shared.errors import Unavailable
from shared.telemetry.logs import logger

JOB = "t:"
# Replicas add what they have counted four times a second.
_SETTLED_S = 1.0
_RETRY_S = 0.25
_LOG = logger("trending")


def fresh_token() -> str:
    return secrets.token_hex(8)


def withdrawal_of(events: Iterable[Event], *, now_ms: int) -> str:
    """The job's value: when it is due, and what was chosen. "" where nothing was."""
    chosen = choices(events)
    if not chosen:
        return ""
    rows = [[c.item_id, c.time_ms, c.label] for c in chosen]
    return json.dumps({"due": now_ms + int(_SETTLED_S * 1000), "chosen": rows}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _Due:
    shard: int
    token: str
    at_s: float


class Withdrawals:
    """The withdrawals of one domain."""

    def __init__(self, store: Store, keys: DomainKeys, trending: Trending) -> None:
        self._store, self._keys, self._trending = store, keys, trending
        self._waiting: deque[_Due] = deque()
        self._arrived = asyncio.Event()
        self._worker = Background()

    def start(self) -> None:
        self._worker.start(self._work())

    async def close(self) -> None:
        """What is not due yet is left to the next server's repair."""
        await self._worker.close()

    def expect(self, user_id: str, token: str) -> None:
        """A withdrawal of that token has been noted in the person's shard, or will be at once."""
        self._waiting.append(_Due(self._keys.shard_number(user_id), token, time.monotonic() + _SETTLED_S))
        self._arrived.set()

    async def repair(self, shard: int, field: str, *, now_ms: int) -> None:
        """Finishes what another server left, where it is due."""
        await self._finish(shard, field.removeprefix(JOB), now_ms)

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(max(0.0, self._waiting[0].at_s - time.monotonic()))
            due = self._waiting[0]
            try:
                await self._finish(due.shard, due.token)
            except Unavailable:
                await asyncio.sleep(_RETRY_S)  # callers of the store have said that it is away
                continue
            except Exception:
                # One that cannot be done must not hold up the others: `repair` will say so again.
                _LOG.exception("not_withdrawn", shard=due.shard)
            self._waiting.popleft()

    async def _finish(self, shard: int, token: str, now_ms: int | None = None) -> None:
        """Safe to repeat. now_ms: does nothing before the withdrawal is due by it."""
        jobs = self._keys.shards[shard].jobs
        noted = await self._store.one("HGET", jobs, JOB + token)
        if noted is None:
            return
        job = json.loads(noted)
        if now_ms is not None and now_ms < job["due"]:
            return
        await self._trending.withdraw(token, [Choice(*row) for row in job["chosen"]])
        await self._store.one("HDEL", jobs, JOB + token, write=True)
