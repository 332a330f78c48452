"""One merge at a time has to do with a person, on whichever server it is made: two that copy the same people
to and fro would each take out what the other has just put there.

A lock is a key with a random token that goes by itself, some seconds after its holder was last heard of. It
orders merges; `forget.lua` asks for the token, so that whoever has lost the lock takes nothing out.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys
from services.features.store.schema import Schema
from services.features.store.scripts import script
from shared.errors import Contended, Unavailable

_KEPT_MS = 20_000
_PAUSE_S = (0.01, 0.05)


@dataclass(frozen=True, slots=True)
class Lock:
    """Of some people. token: what the keys hold."""

    token: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fence:
    """What scripts are given that write to somebody by a merge: none that has lost its lock does."""

    shard: int
    key: str
    token: str


class MergeLocks:
    """Of people of one domain."""

    def __init__(self, store: Store, keys: DomainKeys, schema: Schema) -> None:
        self._store, self._keys, self._schema = store, keys, schema

    def key(self, user_id: str) -> str:
        return self._keys.shard(user_id).merging(self._schema.keyed_hash(user_id))

    def fence(self, user_id: str, lock: Lock) -> Fence:
        return Fence(self._keys.shard_number(user_id), self.key(user_id), lock.token)

    @asynccontextmanager
    async def held(self, *user_ids: str, wait_s: float) -> AsyncIterator[Lock]:
        """Locks these people. Raises Contended where others hold one of them for longer than `wait_s`."""
        # In one order everywhere: nobody waits for whom waits for them.
        lock = Lock(secrets.token_hex(8), tuple(sorted({self.key(user_id) for user_id in user_ids})))
        deadline = time.monotonic() + wait_s
        try:
            for key in lock.keys:
                while not await self._store.one("SET", key, lock.token, "NX", "PX", _KEPT_MS):
                    if time.monotonic() >= deadline:
                        raise Contended.for_now("a person is just being merged; try again later")
                    await asyncio.sleep(random.uniform(*_PAUSE_S))
            yield lock
        finally:
            with suppress(Unavailable):  # they go by themselves
                await self._store.scripts(script("unlock"), [([key], [lock.token]) for key in lock.keys])

    async def keep(self, lock: Lock) -> None:
        """Raises Contended where it was lost: another may be at it by now."""
        calls: list[tuple[list[str], Command]] = [([key], [lock.token, _KEPT_MS]) for key in lock.keys]
        if not all(await self._store.scripts(script("keep_lock"), calls)):
            raise lost_lock()


def lost_lock() -> Contended:
    return Contended.for_now("a merge could not be made in time; try again later")
