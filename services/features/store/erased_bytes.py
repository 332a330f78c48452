"""Erased bytes on the store's disk: the append-only file tells everything that was ever written, until it is
rewritten. A small store would not do that for years, so it is asked to, some hours after an erasure.

What was erased is noted under the domain before the work on it is called done and again after, so that a
rewrite that begins in between does not count for it. A rewrite takes as long as the store is large: that it
was begun is noted there too, and whichever server of ours next finds it ended settles what it covers.
"""

from __future__ import annotations

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
_SLOW_S = 600
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
        self._refused = self._slow = False

    async def note(self, now_ms: int) -> None:
        """Something went that the files may still hold."""
        await self._store.script(script("note_erased"), [self._keys.erasures], [now_ms])

    async def rewrite_if_due(self, *, now_ms: int) -> bool:
        """A step of packing logs and having every server of the store rewrite its file: begins that, or finds
        it ended. True where it is done with this step.

        One server of ours at a time, as two would do the same work; what is erased meanwhile waits for the
        next time.
        """
        first, count, begun = await self._store.one("HMGET", self._keys.erasures, "first", "count", "begun")
        age_ms = now_ms - int(first) if first is not None else 0
        self._age.set(max(0, age_ms) / 1000)
        if first is None or not self._hours or age_ms < self._hours * _HOUR_MS or self._refused:
            return False
        lease = self._keys.lease("rewrite")
        if not await self._store.one("SET", lease, "held", "NX", "PX", _LEASE_MS):
            return False
        try:
            states = await self._states()
            if self._are_rewriting(states):  # one that is not ours may have begun before the erasure
                return False
            if begun is not None:
                return await self._settle(begun.decode(), states)
            if await self._packer.pack() and await self._begin():
                note = " ".join([count.decode(), str(now_ms), *(state["run_id"] for state in states)])
                await self._store.one("HSET", self._keys.erasures, "begun", note, write=True)
        finally:
            await self._store.one("UNLINK", lease)
        return False

    async def _settle(self, begun: str, states: Sequence[dict[str, str]]) -> bool:
        """All are idle. Who started anew since may have died in the midst of it: then it is begun again."""
        count, begun_ms, *run_ids = begun.split(" ")
        failed = [s["aof_last_bgrewrite_status"] for s in states if s["aof_last_bgrewrite_status"] != "ok"]
        if failed:
            _LOG.warning("store_rewrite_failed", domain=self._keys.domain, status=failed[0])
        if failed or not {state["run_id"] for state in states} <= set(run_ids):
            await self._store.one("HDEL", self._keys.erasures, "begun", write=True)
            return False
        await self._store.script(script("settle_erased"), [self._keys.erasures], [count, begun_ms])
        self._age.set(0)
        return True

    async def _begin(self) -> bool:
        """False where somebody else's is under way by now: then not every server may have been asked."""
        try:
            await self._store.on_each_server("BGREWRITEAOF")
        except ResponseError as error:
            if "in progress" not in str(error):
                self._refused = True
                _LOG.warning("store_rewrite_refused", domain=self._keys.domain, reason=str(error))
            return False
        return True

    def _are_rewriting(self, states: Sequence[dict[str, str]]) -> bool:
        """Whether some server is, or will once it has written a snapshot."""
        busy = [s for s in states if (s["aof_rewrite_in_progress"], s["aof_rewrite_scheduled"]) != ("0", "0")]
        seconds = max((int(state["aof_current_rewrite_time_sec"]) for state in busy), default=0)
        if seconds >= _SLOW_S and not self._slow:
            _LOG.warning("store_rewrite_slow", domain=self._keys.domain, seconds=seconds)
        self._slow = seconds >= _SLOW_S
        return bool(busy)

    async def _states(self) -> Sequence[dict[str, str]]:
        """What each server tells of itself."""
        replies = await self._store.on_each_server("INFO")
        texts = [reply.decode() for reply in replies.values()]
        return [dict(line.split(":", 1) for line in text.splitlines() if ":" in line) for text in texts]
