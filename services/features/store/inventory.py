"""What a store holds, counted: of a backup, before and after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.features.store.connection import Store
from services.features.store.keys import DomainKeys, schema_key
from services.features.store.records import unpack_event
from services.features.store.watermark import entry_order

_KEYS_A_LOOK = 1000
_TAG_END = ":meta}:schema"


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The event that arrived last of all. arrived_ms: by the store's clock, since the Unix epoch."""

    event_id: str
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class DomainInventory:
    """One domain. version, oldest, shards, epoch: of its schema; events, impressions: in the logs; erased:
    marks of erased people."""

    domain: str
    version: int
    oldest: int
    shards: int
    epoch: str
    events: int
    impressions: int
    people: int
    items: int
    erased: int
    last_event: LastEvent | None


async def count_keys(store: Store) -> int:
    """Of the whole store."""
    return sum((await store.on_each_primary("DBSIZE")).values())


async def domains_of(store: Store) -> list[str]:
    """Sorted. A store on one server only."""
    found = [key async for key in _scan(store, schema_key("*"))]
    return sorted(key.removeprefix("{").removesuffix(_TAG_END) for key in found)


async def inventory(store: Store) -> list[DomainInventory]:
    """Of every domain. A store on one server only."""
    return [await _of(store, domain) for domain in await domains_of(store)]


async def people_of(store: Store, keys: DomainKeys) -> AsyncIterator[str]:
    """Everybody of whom there is anything, each once. A store on one server only."""
    seen: set[str] = set()
    for kind in ("p", "h", "s", "d", "f", "b"):
        async for key in _scan(store, f"{{{keys.domain}:s*}}:{kind}:*"):
            user_id = key.partition("}:")[2].removeprefix(f"{kind}:")
            if user_id not in seen:
                seen.add(user_id)
                yield user_id


async def _of(store: Store, domain: str) -> DomainInventory:
    fields = await store.one("HMGET", schema_key(domain), "version", "oldest", "shards", "epoch")
    version, oldest, shards, epoch = (field.decode() for field in fields)
    keys = DomainKeys(domain, int(shards))
    events = await store.run([("XLEN", s.log) for s in keys.shards])
    impressions = await store.run([("XLEN", s.impressions) for s in keys.shards])
    erased = await store.run([("HLEN", s.gone) for s in keys.shards])
    return DomainInventory(
        domain=domain,
        version=int(version),
        oldest=int(oldest),
        shards=int(shards),
        epoch=epoch,
        events=sum(events),
        impressions=sum(impressions),
        people=len([user_id async for user_id in people_of(store, keys)]),
        items=await store.one("ZCARD", keys.item_ids),
        erased=sum(erased),
        last_event=await _last_event(store, keys),
    )


async def _last_event(store: Store, keys: DomainKeys) -> LastEvent | None:
    replies = await store.run([("XREVRANGE", s.log, "+", "-", "COUNT", 1) for s in keys.shards])
    entries = [reply[0] for reply in replies if reply]
    if not entries:
        return None
    entry_id, fields = max(entries, key=lambda entry: entry_order(entry[0]))
    event = unpack_event(fields[1].decode(), fields[3])
    return LastEvent(event.event_id, entry_order(entry_id)[0])


async def _scan(store: Store, pattern: str) -> AsyncIterator[str]:
    """Keys, some of them perhaps twice."""
    cursor = b"0"
    while True:
        cursor, found = await store.one("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_A_LOOK)
        for key in found:
            yield key.decode()
        if cursor == b"0":
            return
