"""Named levels of durability, and whether the server is set up to keep them.

local       `appendonly yes`, `appendfsync always`: acknowledged = on the primary's disk
replicated  `appendonly yes` and WAITAOF: acknowledged = on the primary's disk and on that of
            `replicas` replicas
relaxed     `appendonly yes`: acknowledged = in memory; a crash may lose about a second

All need `no-appendfsync-on-rewrite no`: else nothing is synced for as long as the file is rewritten, minutes
where the store is large. None of them may throw keys away where memory is short: `maxmemory-policy` must be
`noeviction`, or one that takes only keys that expire, which no person's and no item's do.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from valkey.exceptions import ResponseError

from services.features.store.connection import Store
from shared.errors import SettingsError, Unavailable


class Durability(StrEnum):
    LOCAL = "local"
    REPLICATED = "replicated"
    RELAXED = "relaxed"


async def check_durability(store: Store, level: Durability, *, replicas: int) -> None:
    """Raises SettingsError where a primary is not configured as the level needs.

    Raises Unavailable where replicas are still missing.
    """
    try:
        configs = await store.on_each_primary("CONFIG", "GET", "*append*")
        memory = await store.on_each_primary("CONFIG", "GET", "maxmemory-policy")
    except ResponseError as error:
        raise SettingsError(
            f"durability {level} cannot be verified: the store refuses CONFIG GET ({error}); set "
            "verify_durability=false once its append-only file is known to be set up for this level"
        ) from error
    for name, reply in configs.items():
        config = _pairs(reply)
        _expect(config, "appendonly", "yes", level, name)
        if level is Durability.LOCAL:
            _expect(config, "appendfsync", "always", level, name)
        _expect(config, "no-appendfsync-on-rewrite", "no", level, name)
        _expect_no_eviction(_pairs(memory[name]), level, name)
    if level is Durability.REPLICATED:
        await _expect_replicas(store, replicas)


def _pairs(reply: Any) -> dict[str, str]:
    """A flat list or a map of bytes → texts."""
    if isinstance(reply, dict):
        return {_text(name): _text(value) for name, value in reply.items()}
    return {_text(reply[n]): _text(reply[n + 1]) for n in range(0, len(reply), 2)}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _expect(config: dict[str, str], name: str, wanted: str, level: Durability, server: str) -> None:
    if config.get(name) != wanted:
        raise SettingsError(
            f"durability {level} needs {name} {wanted} at the store, got {config.get(name)!r} "
            f"({server.rpartition('@')[2]}); configure the server, or choose another durability"
        )


def _expect_no_eviction(config: dict[str, str], level: Durability, server: str) -> None:
    policy = config.get("maxmemory-policy", "")
    if policy.startswith("allkeys-"):
        raise SettingsError(
            f"durability {level} needs maxmemory-policy noeviction at the store, got {policy!r} "
            f"({server.rpartition('@')[2]}): it would throw away what was acknowledged"
        )


async def _expect_replicas(store: Store, wanted: int) -> None:
    for name, reply in (await store.on_each_primary("INFO", "replication")).items():
        lines = dict(line.split(":", 1) for line in _text(reply).splitlines() if ":" in line)
        if int(lines.get("connected_slaves", "0")) < wanted:
            raise Unavailable(
                f"durability replicated needs {wanted} connected replicas of {name.rpartition('@')[2]}, "
                f"got {lines.get('connected_slaves', '0')}"
            )
