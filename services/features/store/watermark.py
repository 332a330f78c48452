"""Watches the length of the shards' logs: what is trimmed before it was exported is lost to training."""

from __future__ import annotations

from prometheus_client import Counter

from services.features.store.connection import Store
from services.features.store.keys import DomainKeys
from shared.telemetry.logs import logger

_WARN_AT = 0.9
_LOG = logger("log")


def trimmed_counter() -> Counter:
    """One for all domains of a server."""
    return Counter(
        "warmstart_features_log_trimmed_events",
        "Events trimmed from the log at its hard cap, by whether they had been exported.",
        ("domain", "exported"),
        registry=None,
    )


class LogAlarm:
    """Counts trimmed entries; warns once a shard when its log is nearly full or loses unexported entries."""

    def __init__(self, store: Store, keys: DomainKeys, *, log_cap: int, trimmed: Counter) -> None:
        self._store, self._keys = store, keys
        self._shard_cap = max(1, log_cap // len(keys.shards))
        self._warned: set[tuple[str, int]] = set()
        self._trimmed = trimmed

    async def observe(self, shard: int, trimmed: int, length: int) -> None:
        """After an append: `trimmed` entries have gone, `length` are left."""
        if length > _WARN_AT * self._shard_cap:
            self._warn("log_nearly_full", shard, entries=length)
        if not trimmed:
            return
        exported = await self._were_exported(shard)
        self._trimmed.labels(self._keys.domain, "yes" if exported else "no").inc(trimmed)
        if not exported:
            self._warn("log_trimmed_before_export", shard, entries=trimmed)

    async def _were_exported(self, shard: int) -> bool:
        """Whether an export reached at least as far as the oldest entry that is left."""
        keys = self._keys.shards[shard]
        exported, oldest = await self._store.run(
            [("HGET", keys.state, "exported"), ("XRANGE", keys.log, "-", "+", "COUNT", 1)]
        )
        return bool(exported) and bool(oldest) and entry_order(oldest[0][0]) <= entry_order(exported)

    def _warn(self, event: str, shard: int, *, entries: int) -> None:
        if (event, shard) not in self._warned:
            self._warned.add((event, shard))
            _LOG.warning(event, domain=self._keys.domain, shard=shard, entries=entries, cap=self._shard_cap)


def entry_order(entry_id: bytes) -> tuple[int, int]:
    """Entry ids as numbers that compare by age."""
    time, _, number = entry_id.partition(b"-")
    return int(time), int(number or b"0")
