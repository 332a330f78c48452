"""Who was erased, kept apart from the store: a backup from before an erasure would bring the person back.

The list holds no ids, only what remains of erased people in the store itself: keyed hashes and times. Whoever
restores a backup replays the list, and everybody in the backup who was erased after it was made is erased
again, with all that `Lifecycle.erase` takes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.features.store.connection import Store
from services.features.store.erased_bytes import ErasedBytes, erased_bytes_gauge
from services.features.store.events import EventLimits, EventWriter
from services.features.store.held import HeldReader
from services.features.store.inventory import domains_of, people_of
from services.features.store.keys import DomainKeys, schema_key
from services.features.store.lifecycle import Lifecycle
from services.features.store.packing import Packer
from services.features.store.people import pairs
from services.features.store.relations import Relations
from services.features.store.schema import Schema, open_domain
from services.features.store.trending import Trending
from services.features.store.watermark import LogAlarm, trimmed_counter
from services.features.store.withdrawals import Withdrawals
from shared.errors import WrongState

_MARKS_A_CALL = 500


@dataclass(frozen=True, slots=True)
class ErasedPerson:
    """shard: the person's; keyed_hash: in hex; time_ms: of the erasure, since the Unix epoch."""

    shard: int
    keyed_hash: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class ErasureList:
    """Of one domain. secret_check: of the secret that the hashes are keyed by; began_ms: nobody is missing
    who was erased since then (since the Unix epoch), None in files of before it was noted."""

    domain: str
    shards: int
    secret_check: str
    people: Sequence[ErasedPerson]
    began_ms: int | None = None

    def tells_since(self, moment_ms: int) -> bool:
        """A store that was emptied or begun later, or perhaps so, does not know who was erased before."""
        return self.began_ms is not None and self.began_ms <= moment_ms


@dataclass(frozen=True, slots=True)
class Replayed:
    """erased: people of the store who were erased again; marks: erasures that it did not know of."""

    erased: int
    marks: int


async def erasures_of(store: Store, secret: str) -> list[ErasureList]:
    """Of every domain. secret: the deletion secret that the servers are told, "" for the store's own."""
    return [await _listed(store, await _opened(store, domain, secret)) for domain in await domains_of(store)]


async def replay(
    store: Store, lists: Iterable[ErasureList], secret: str, *, half_life_s: int, max_trending: int
) -> Replayed:
    """Erases again whom the lists name, where the store knows nothing of it or of an earlier time only; what
    such a person did after that time is not in the store. Safe to repeat.

    Raises WrongState where a list is of another secret or number of shards: it would find nobody.
    """
    there = await domains_of(store)
    erased = marks = 0
    for one in lists:
        if one.domain not in there:
            continue  # nobody of it is in the store
        schema = await _opened(store, one.domain, secret)
        _check(schema, one)
        fresh = await _fresh(store, schema, one)
        marks += len(fresh)
        erased += await _erase(store, schema, fresh, half_life_s, max_trending)
        await _mark(store, schema, one)
    return Replayed(erased, marks)


async def _opened(store: Store, domain: str, secret: str) -> Schema:
    shards = int(await store.one("HGET", schema_key(domain), "shards"))
    return await open_domain(store, domain, num_shards=shards, secret=secret)


async def _listed(store: Store, schema: Schema) -> ErasureList:
    keys = DomainKeys(schema.domain, schema.num_shards)
    replies = await store.run([("HGETALL", shard.gone) for shard in keys.shards])
    people = [
        ErasedPerson(shard, keyed_hash.hex(), int(float(time_ms)))
        for shard, reply in enumerate(replies)
        for keyed_hash, time_ms in pairs(reply).items()
    ]
    return ErasureList(schema.domain, schema.num_shards, schema.secret_check, people, schema.began_ms)


def _check(schema: Schema, one: ErasureList) -> None:
    for what, stated, wanted in (
        ("shards", one.shards, schema.num_shards),
        ("deletion secret", one.secret_check, schema.secret_check),
    ):
        if stated != wanted:
            raise WrongState(
                f"erasures of domain {one.domain!r} must be of the backup's {what}, {wanted}, got {stated}: "
                "nobody would be found by them"
            )


async def _fresh(store: Store, schema: Schema, one: ErasureList) -> dict[str, int]:
    """Keyed hash → time of the erasures that the store does not know of."""
    before = {p.keyed_hash: p.time_ms for p in (await _listed(store, schema)).people}
    return {p.keyed_hash: p.time_ms for p in one.people if p.time_ms > before.get(p.keyed_hash, -1)}


async def _erase(
    store: Store, schema: Schema, fresh: Mapping[str, int], half_life_s: int, max_trending: int
) -> int:
    if not fresh:
        return 0
    keys = DomainKeys(schema.domain, schema.num_shards)
    limits = EventLimits()
    alarm = LogAlarm(store, keys, log_cap=limits.log, trimmed=trimmed_counter())
    writer = EventWriter(store, keys, schema, limits, alarm)
    relations = Relations(store, keys, schema, max_relations=0)
    # What the erased weighed in trends is noted, and withdrawn by whichever server of the store comes first.
    withdrawals = Withdrawals(
        store, keys, Trending(store, keys, half_life_s=half_life_s, max_items=max_trending)
    )
    erased = ErasedBytes(store, keys, Packer(store, keys), hours=0, age=erased_bytes_gauge())
    held = HeldReader(store, keys)
    lifecycle = Lifecycle(store, keys, schema, writer, relations, held, withdrawals, erased, limits=limits)
    found = [
        (user_id, fresh[keyed_hash])
        async for user_id in people_of(store, keys)
        if (keyed_hash := schema.keyed_hash(user_id).hex()) in fresh
    ]
    erased_again = 0
    for user_id, time_ms in found:
        if await _began_by(store, keys, user_id, time_ms):
            await lifecycle.erase(user_id, now_ms=time_ms)
            erased_again += 1
    return erased_again


async def _began_by(store: Store, keys: DomainKeys, user_id: str, time_ms: int) -> bool:
    """Whether what there is of a person is from before that. Else it is of somebody who was merged into
    another before the backup, has begun anew under the same id, and counts as erased until the merge."""
    oldest = await store.one("ZRANGE", keys.shard(user_id).history(user_id), 0, 0, "WITHSCORES")
    return not oldest or float(oldest[1]) <= time_ms


async def _mark(store: Store, schema: Schema, one: ErasureList) -> None:
    """Notes the erasures, also of people whom the store does not know: what comes late of them is refused."""
    known = {p.keyed_hash: p.time_ms for p in (await _listed(store, schema)).people}
    keys = DomainKeys(schema.domain, schema.num_shards)
    commands = [
        ("HSET", keys.shards[p.shard].gone, bytes.fromhex(p.keyed_hash), p.time_ms)
        for p in one.people
        if p.time_ms > known.get(p.keyed_hash, -1)
    ]
    for at in range(0, len(commands), _MARKS_A_CALL):
        await store.run(commands[at : at + _MARKS_A_CALL], write=True)
