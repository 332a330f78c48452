"""Leaving: erasing a person, folding one into another.

Both span shards, so each can be interrupted anywhere and is finished by repeating it, or by
`repair`, which every server runs now and then:

erase   one script takes the person out of their shard, leaves the keyed hash and the jobs; then it is read
        what they weighed in trends, to be withdrawn; then the other sides of their relations and their log
        entries go, last the job.
fold    the source's events are appended to the target under their own ids (so repeating adds
        nothing), then seen items and relations; last the source is taken out, but only if nothing
        was added to it meanwhile, else it begins again, from the third time on with new relations waiting for
        its end. No acknowledged event is lost: where the target was erased after something of the source
        happened, nothing is folded and the source stays whole.

What an erased person's id may do afterwards: what is dated before the erasure (or has no date)
is refused, also from importers; what is dated later begins a new person.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from services.features.store.connection import Command, Store
from services.features.store.erased_bytes import ErasedBytes
from services.features.store.events import AppendStatus, EventWriter
from services.features.store.held import HeldPerson, HeldReader, Stretch, first_events
from services.features.store.holdings import own_keys
from services.features.store.keys import DomainKeys
from services.features.store.packing import CUT_IMPRESSIONS, CUT_LOG
from services.features.store.people import PersonStatus, pairs
from services.features.store.records import relation_field, split_relation_field, unpack_relations
from services.features.store.relations import JOB as RELATION_JOB
from services.features.store.relations import Relations
from services.features.store.schema import Schema
from services.features.store.scripts import script
from services.features.store.withdrawals import JOB as WITHDRAWAL_JOB
from services.features.store.withdrawals import Withdrawals, fresh_token, withdrawal_of
from shared.domain import Event
from shared.errors import Contended, Unavailable, WrongState
from shared.telemetry.logs import logger

_LOG = logger("merge")
_ENTRIES_A_LOOK = 1000
_EVENTS_A_CALL = 1000
_FOLD_ATTEMPTS = 20
# After so many, relations of the source wait for the end; if this server dies, they wait no longer than that.
_OPEN_ATTEMPTS = 2
_CLOSED_MS = 30_000
_ERASE_JOB, _WEIGH_JOB = "x:", "w:"
_NOTHING, _FORGOTTEN, _BUSY, _CHANGED = range(4)
# For so long an impression of a list that was on its way is known to be of somebody who was merged.
_MERGE_MS = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody's arrivals, relation changes and when attributes or relations last came, as they were read;
    "" = whatever they are."""

    arrivals: str = ""
    changes: str = ""
    described: str = ""


_WHATEVER = Seen()


class Lifecycle:
    """Erasing and folding people of one domain."""

    def __init__(
        self,
        store: Store,
        keys: DomainKeys,
        schema: Schema,
        writer: EventWriter,
        relations: Relations,
        held: HeldReader,
        withdrawals: Withdrawals,
        erased: ErasedBytes,
        *,
        max_seen: int,
    ) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._writer, self._relations = writer, relations
        self._held, self._withdrawals, self._erased = held, withdrawals, erased
        self._max_seen = max_seen

    async def erase(self, user_id: str, *, now_ms: int, unless_changed: Seen = _WHATEVER) -> bool:
        """Leaves nothing of the person but the keyed hash. False where there was nothing.

        unless_changed: as they were seen; False also where they are others now.
        """
        keyed_hash = self._schema.keyed_hash(user_id)
        outcome = await self._forget(user_id, keyed_hash, now_ms, unless_changed)
        if outcome == _FORGOTTEN:
            await self._clean(user_id, now_ms=now_ms)
        return outcome == _FORGOTTEN

    async def fold(self, source: str, target: str, *, now_ms: int) -> int:
        """Moves everything of `source` to `target`; the events that were new to `target`.

        Raises WrongState, with the source still whole, where `target` was erased, before this or meanwhile,
        and so cannot take all of it; Contended where others write to the source all the time.
        """
        closed = self._keys.shard(source).closed(self._schema.keyed_hash(source))
        moved = attempt = 0
        try:
            for attempt in range(_FOLD_ATTEMPTS):
                if attempt >= _OPEN_ATTEMPTS:  # others who relate this person wait, so that this ends
                    await self._store.one("SET", closed, "", "PX", _CLOSED_MS)
                is_done, new = await self._fold_once(source, target, now_ms)
                moved += new
                if is_done:
                    return moved
        finally:
            if attempt >= _OPEN_ATTEMPTS:
                with suppress(Unavailable):  # what is done is done; the mark goes by itself
                    await self._store.one("UNLINK", closed)
        raise Contended.for_now(
            "from_user_id is being written to faster than it can be folded; try again later"
        )

    async def _fold_once(self, source: str, target: str, now_ms: int) -> tuple[bool, int]:
        """Whether the source is out, and the events that were new to the target."""
        held = await self._held.read(source)
        await self._expect_room(held.events, target)
        if not held.is_nothing:  # merged into another before, the target is here again
            await self._unmark(target)
        moved = await self._copy_events(held.events, target)
        await self._copy_seen(held.seen, target)
        left_out = await self._copy_relations(held, source, target)
        withdrawal = withdrawal_of(await self._chosen_by_both(held, target), now_ms=now_ms)
        outcome = await self._forget(source, b"", now_ms, Seen(held.arrivals, held.changes), withdrawal)
        if outcome == _FORGOTTEN:
            await self._clean(source, now_ms=now_ms)
            if left_out:
                _LOG.warning("relations_left_out", domain=self._keys.domain, count=left_out)
        return outcome != _CHANGED, moved

    async def repair(self, *, now_ms: int) -> int:
        """Finishes what crashed servers left unfinished; the number of jobs."""
        replies = await self._store.run([("HKEYS", shard.jobs) for shard in self._keys.shards])
        relations: list[str] = []
        for shard, fields in enumerate(replies):
            for field in (name.decode() for name in fields):
                kind = field[:2]
                if kind in (_ERASE_JOB, _WEIGH_JOB):
                    await self._clean(field.removeprefix(kind), now_ms=now_ms)
                elif kind == WITHDRAWAL_JOB:
                    await self._withdrawals.repair(shard, field, now_ms=now_ms)
                elif kind == f"{RELATION_JOB}:":
                    relations.append(field)
        await self._relations.repair(relations)
        return sum(map(len, replies))

    async def _forget(
        self,
        user_id: str,
        keyed_hash: bytes,
        now_ms: int,
        expected: Seen = _WHATEVER,
        withdrawal: str = "",
    ) -> int:
        """withdrawal: known already; else it is read by `_clean`."""
        keys, token = self._keys.shard(user_id), fresh_token()
        names = [
            keys.gone, keys.jobs, keys.users, *own_keys(keys, user_id),
            keys.detached_history(user_id), keys.detached_forward(user_id), keys.detached_back(user_id),
            keys.merged(self._schema.keyed_hash(user_id)),
        ]  # fmt: skip
        args: Command = [
            user_id, keyed_hash, now_ms, expected.arrivals, expected.changes, token, withdrawal,
            expected.described, _MERGE_MS,
        ]  # fmt: skip
        while True:
            outcome = int(await self._store.script(script("forget"), names, args))
            if outcome == _FORGOTTEN:
                self._withdrawals.expect(user_id, token)
            if outcome != _BUSY:
                return outcome
            await self._clean(user_id, now_ms=now_ms)

    async def _clean(self, user_id: str, *, now_ms: int) -> None:
        """What `forget.lua` left to do: the part in trends, other sides, log entries, the job itself."""
        keys = self._keys.shard(user_id)
        forward, back = keys.detached_forward(user_id), keys.detached_back(user_id)
        job, token, relations = await self._store.run(
            [
                ("HGET", keys.jobs, _ERASE_JOB + user_id),
                ("HGET", keys.jobs, _WEIGH_JOB + user_id),
                ("HKEYS", forward),
            ]
        )
        first, last, _, first_shown, last_shown = (job or b"    ").decode().split(" ")
        logged, shown = Stretch(first, last), Stretch(first_shown, last_shown)
        if token is not None:  # first: it is read from the entries that go next
            await self._note_withdrawal(user_id, token, logged, now_ms)
        if job is None:
            return
        await self._drop_sides(
            [
                (self._keys.shard(other).back(other), relation_field(kind, user_id))
                for kind, other in map(split_relation_field, relations)
            ]
        )
        cursor = b"0"
        while True:  # a celebrity has more followers than one reply should hold
            cursor, flat = await self._store.one("HSCAN", back, cursor, "COUNT", _ENTRIES_A_LOOK)
            await self._drop_sides(
                [
                    (self._keys.shard(owner).forward(owner), relation_field(kind, user_id))
                    for kind, owner in map(split_relation_field, flat[::2])
                ]
            )
            if cursor == b"0":
                break
        await self._cut(user_id, keys.log, logged, CUT_LOG)
        await self._cut(user_id, keys.impressions, shown, CUT_IMPRESSIONS)
        await self._erased.note(now_ms)
        names = [keys.jobs, forward, back]
        await self._store.script(script("settle_forgotten"), names, [_ERASE_JOB + user_id, job])
        await self._erased.note(now_ms)

    async def _note_withdrawal(self, user_id: str, token: bytes, logged: Stretch, now_ms: int) -> None:
        keys = self._keys.shard(user_id)
        detached = keys.detached_history(user_id)
        history = await self._store.one("ZRANGE", detached, 0, -1)
        arrived = await self._held.arrived(user_id, history, logged, Stretch("", ""))
        withdrawal = withdrawal_of(first_events(e for _, e in arrived).values(), now_ms=now_ms)
        await self._store.script(
            script("note_withdrawal"), [keys.jobs, detached], [user_id, token, withdrawal]
        )

    async def _drop_sides(self, sides: Sequence[tuple[str, str]]) -> None:
        await self._store.run([("HDEL", key, field) for key, field in sides], write=True)

    async def _cut(self, user_id: str, log: str, span: Stretch, counter: str) -> None:
        """Takes the person's entries out of a log."""
        state, first = self._keys.shard(user_id).state, span.first
        while first:
            args: Command = [user_id, first, span.last, _ENTRIES_A_LOOK, "erase", counter]
            more, _ = await self._store.script(script("sift"), [log, state], args)
            first = f"({more.decode()}" if more else ""

    async def _chosen_by_both(self, held: HeldPerson, target: str) -> list[Event]:
        """First events of the source on items that the target had chosen for themselves: as one person they
        count once."""
        kept = first_events((await self._held.read(target)).events)
        return [
            event
            for item_id, event in first_events(held.events).items()
            if item_id in kept and kept[item_id].event_id != event.event_id
        ]

    async def _expect_room(self, events: Sequence[Event], target: str) -> None:
        """Refuses before anything is copied; an erasure from now on is noticed while copying."""
        keys = self._keys.shard(target)
        erased = await self._store.one("HGET", keys.gone, self._schema.keyed_hash(target))
        if erased is not None and any(event.time_ms <= float(erased) for event in events):
            raise _target_erased()

    async def _unmark(self, user_id: str) -> None:
        await self._store.one("UNLINK", self._keys.shard(user_id).merged(self._schema.keyed_hash(user_id)))

    async def _copy_events(self, events: Sequence[Event], target: str) -> int:
        moved = 0
        for at in range(0, len(events), _EVENTS_A_CALL):
            part = [replace(event, user_id=target) for event in events[at : at + _EVENTS_A_CALL]]
            statuses = await self._writer.append(part)
            if AppendStatus.ERASED_PERSON in statuses:
                raise _target_erased()
            if AppendStatus.MERGED_PERSON in statuses:
                raise WrongState(
                    "into_user_id has just been merged into another person; nothing of from_user_id was "
                    "removed: merge it into that one"
                )
            moved += sum(status.is_new for status in statuses)
        return moved

    async def _copy_seen(self, seen: Sequence[tuple[str, int]], target: str) -> None:
        if not seen:
            return
        keys = self._keys.shard(target)
        args: list[bytes | str | int | float] = [self._schema.keyed_hash(target), self._max_seen]
        for item_id, time_ms in seen:
            args += (time_ms, item_id)
        if not await self._store.script(
            script("see"), [keys.gone, keys.person(target), keys.seen(target)], args
        ):
            raise _target_erased()

    async def _copy_relations(self, held: HeldPerson, source: str, target: str) -> int:
        """Both sides; what the target has already stays as it is, and nobody is related to themselves. How
        many found no room."""
        own = await self._store.one("HKEYS", self._keys.shard(target).forward(target))
        known = {split_relation_field(field) for field in own}
        copies = [
            replace(relation, user_id=target)
            for relation in held.relations
            if not relation.removed
            and relation.other_user_id != target
            and (relation.kind, relation.other_user_id) not in known
        ]
        followers = [(kind, owner) for kind, owner in held.followers if owner != target]
        replies = await self._store.run(
            [("HGETALL", self._keys.shard(owner).forward(owner)) for _, owner in followers]
        )
        for (kind, owner), flat in zip(followers, replies, strict=True):
            relations = {(r.kind, r.other_user_id): r for r in unpack_relations(owner, pairs(flat))}
            there = relations.get((kind, source))
            if there is not None and (kind, target) not in relations:
                copies.append(replace(there, other_user_id=target))
        statuses = await self._relations.relate(copies, by_merge=True)
        # A relation may also be refused because the person at its other end was erased: then it has to go.
        if PersonStatus.ERASED_PERSON in statuses and await self._is_erased(target):
            raise _target_erased()
        return statuses.count(PersonStatus.TOO_MANY)

    async def _is_erased(self, user_id: str) -> bool:
        """Erased, and nothing later has begun a new person."""
        keys = self._keys.shard(user_id)
        erased, there = await self._store.run(
            [
                ("HEXISTS", keys.gone, self._schema.keyed_hash(user_id)),
                ("EXISTS", keys.person(user_id)),
            ]
        )
        return bool(erased) and not there


def _target_erased() -> WrongState:
    return WrongState(
        "into_user_id was erased, and what from_user_id did before that cannot be taken in under this id; "
        "nothing of from_user_id was removed: merge it into an id that was not erased, or delete it"
    )
