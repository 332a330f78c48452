"""Erased bytes on the store's disk: the append-only file tells everything that was ever written, until it is
rewritten. A small store would not do that for years, so it is asked to, some hours after an erasure.

What was erased is noted under the domain before the work on it is called done and again after, so that a
rewrite that begins in between does not count for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import Gauge
from valkey.exceptions import ResponseError

from services.features.store.connection import Store
from services.features.store.keys import DomainKeys
from services.features.store.packing import Packer
from services.features.store.scripts import script
from shared.telemetry.logs import logger

_HOUR_MS = 3600 * 1000
_LEASE_MS = 15 * 60 * 1000
_POLL_S = 0.1
_LONGEST_S = 600.0
_LOG = logger("erasure")


def erased_bytes_gauge() -> Gauge:
    """One for all domains of a server."""
    return Gauge(
        "warmstart_features_erased_bytes_age_seconds",
        "Age of the oldest erasure whose bytes the store's files may still hold; 0 where there is none.",
        ("domain",),
        registry=None,
    )


class ErasedBytes:
    """Of one domain. hours: after an erasure within which files are to be rewritten; 0 = not asked for."""

    def __init__(self, store: Store, keys: DomainKeys, packer: Packer, *, hours: float, age: Gauge) -> None:
        self._store, self._keys, self._packer = store, keys, packer
        self._hours = hours
        self._age = age.labels(keys.domain)
        self._refused = False

    async def note(self, now_ms: int) -> None:
        """Something went that the files may still hold."""
        await self._store.script(script("note_erased"), [self._keys.erasures], [now_ms])

    async def rewrite_if_due(self, *, now_ms: int) -> bool:
        """Packs logs and has every server of the store rewrite its file; whether that was done.

        One server of ours at a time, as two would do the same work; what is erased meanwhile waits for the
        next time.
        """
        first, count = await self._store.one("HMGET", self._keys.erasures, "first", "count")
        age_ms = now_ms - int(first) if first is not None else 0
        self._age.set(max(0, age_ms) / 1000)
        if first is None or not self._hours or age_ms < self._hours * _HOUR_MS or self._refused:
            return False
        lease = self._keys.lease("rewrite")
        if not await self._store.one("SET", lease, "held", "NX", "PX", _LEASE_MS):
            return False
        try:
            if not (await self._packer.pack() and await self._rewrite()):
                return False
            await self._store.script(script("settle_erased"), [self._keys.erasures], [count, now_ms])
        finally:
            await self._store.one("UNLINK", lease)
        self._age.set(0)
        return True

    async def _rewrite(self) -> bool:
        async with asyncio.timeout(_LONGEST_S):
            await self._idle()  # one under way may have begun before the erasure
            if not await self._begun():
                return False
            states = await self._idle()
        failed = [s["aof_last_bgrewrite_status"] for s in states if s["aof_last_bgrewrite_status"] != "ok"]
        if failed:
            _LOG.warning("store_rewrite_failed", domain=self._keys.domain, status=failed[0])
        return not failed

    async def _begun(self) -> bool:
        """False where somebody else's is under way by now: then not every server may have been asked."""
        try:
            await self._store.on_each_server("BGREWRITEAOF")
        except ResponseError as error:
            if "in progress" not in str(error):
                self._refused = True
                _LOG.warning("store_rewrite_refused", domain=self._keys.domain, reason=str(error))
            return False
        return True

    async def _idle(self) -> Sequence[dict[str, str]]:
        """What each server says once none rewrites."""
        while True:
            states = await self._states()
            if all(s["aof_rewrite_in_progress"] == s["aof_rewrite_scheduled"] == "0" for s in states):
                return states
            await asyncio.sleep(_POLL_S)

    async def _states(self) -> Sequence[dict[str, str]]:
        replies = await self._store.on_each_server("INFO", "persistence")
        texts = [reply.decode() for reply in replies.values()]
        return [dict(line.split(":", 1) for line in text.splitlines() if ":" in line) for text in texts]
