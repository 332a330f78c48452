"""Leaving: erasing a person, folding one into another.

Both span shards, so each can be interrupted anywhere and is finished by repeating it, or by
`repair`, which every server runs now and then:

erase   one script takes the person out of their shard, leaves the keyed hash and the jobs; then it is read
        what they weighed in trends, to be withdrawn; then the other sides of their relations and their log
        entries go, last the job.
fold    both people are locked, as other folds may have to do with them, and it is noted at both; then the
        source's events are appended to the target under their own ids (so repeating adds nothing; where the
        target has another event of that id, under one made of both), then seen items and relations, and who
        was folded into the source before; last the source is taken out, but only if nothing was added to it
        meanwhile, else it begins again, from the third time on with new relations waiting for its end. What
        was acknowledged under the source's id stays known under it. No acknowledged event is lost: where the
        target was erased after something of the source happened, nothing is folded and the source stays
        whole.

Whoever erases somebody whose fold is not finished finishes it first, and so does whoever folds one of the two
again, or another into one of them: what was copied would outlive the source, or be copied on. Who is erased
takes along whom was folded into them: what those did before counts as erased under their ids, too.

What an erased person's id may do afterwards: what is dated before the erasure (or has no date)
is refused, also from importers; what is dated later begins a new person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from services.features.store.connection import Command, Store
from services.features.store.copying import Copier
from services.features.store.erased_bytes import ErasedBytes
from services.features.store.events import EventLimits, EventWriter
from services.features.store.held import HeldReader, Stretch, first_events
from services.features.store.holdings import own_keys
from services.features.store.keys import DomainKeys
from services.features.store.locks import Lock, MergeLocks, lost_lock
from services.features.store.packing import CUT_IMPRESSIONS, CUT_LOG
from services.features.store.records import split_relation_field
from services.features.store.relations import JOB as RELATION_JOB
from services.features.store.relations import OLD_JOB as OLD_RELATION_JOB
from services.features.store.relations import Relations
from services.features.store.schema import Schema
from services.features.store.scripts import script
from services.features.store.withdrawals import JOB as WITHDRAWAL_JOB
from services.features.store.withdrawals import Withdrawals, fresh_token, withdrawal_of
from shared.errors import Contended, Unavailable, WrongState
from shared.telemetry.logs import logger

_LOG = logger("merge")
_ENTRIES_A_LOOK = 1000
_FOLD_ATTEMPTS = 20
# After so many, relations of the source wait for the end; if this server dies, they wait no longer than that.
_OPEN_ATTEMPTS = 2
_CLOSED_MS = 30_000
_ERASE_JOB, _WEIGH_JOB, _FOLD_JOB, _TARGET_JOB = "x:", "w:", "m:", "i:"
_NOTHING, _FORGOTTEN, _BUSY, _CHANGED, _FOLDING, _UNLOCKED = range(6)
# For so long a merge, or an erasure that has to end one, waits for another of the same people.
_WAIT_S = 5.0
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
        limits: EventLimits,
    ) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._relations = relations
        self._copy = Copier(store, keys, schema, writer, relations, held, limits=limits)
        self._locks = MergeLocks(store, keys, schema)
        self._held, self._withdrawals, self._erased = held, withdrawals, erased
        self._limits = limits

    async def erase(self, user_id: str, *, now_ms: int, unless_changed: Seen = _WHATEVER) -> bool:
        """Leaves nothing of the person but the keyed hash. False where there was nothing.

        unless_changed: as they were seen; False also where they are others now.
        """
        while (outcome := await self._forget(user_id, now_ms, unless_changed)) == _FOLDING:
            await self._finish_fold(user_id, now_ms, wait_s=_WAIT_S)
        if outcome == _FORGOTTEN:
            await self._clean(user_id, now_ms=now_ms)
        return outcome == _FORGOTTEN

    async def fold(self, source: str, target: str, *, now_ms: int) -> int:
        """Moves everything of `source` to `target`; the events that were new to `target`.

        Raises WrongState, with the source still whole, where `target` was erased, before this or meanwhile,
        and so cannot take all of it; Contended where others write to the source all the time.
        """
        while True:
            async with self._locks.held(source, target, wait_s=_WAIT_S) as lock:
                unfinished = await self._unfinished(source, target)
                if not unfinished:
                    await self._note_fold(source, target, lock)
                    return await self._fold_noted(source, target, now_ms, lock)
            await self._finish_fold(unfinished, now_ms, wait_s=_WAIT_S)

    async def _note_fold(self, source: str, target: str, lock: Lock) -> None:
        """At the target first: from then on whoever folds one of the two finds it."""
        for kind, user_id, other in ((_TARGET_JOB, target, source), (_FOLD_JOB, source, target)):
            names = [self._keys.shard(user_id).jobs, self._locks.key(user_id)]
            args: Command = [kind + user_id, other, lock.token]
            if not await self._store.script(script("note_merge"), names, args):
                raise lost_lock()

    async def _unfinished(self, source: str, target: str) -> str:
        """Whose fold has to do with one of the two and is made by nobody any more, as both are locked; "" =
        nobody's but this."""
        noted = await self._store.run(
            [
                ("HGET", self._keys.shard(user_id).jobs, kind + user_id)
                for kind in (_FOLD_JOB, _TARGET_JOB)
                for user_id in (source, target)
            ]
        )
        into, beyond, into_source, into_target = (value.decode() if value else "" for value in noted)
        if into not in ("", target):
            return source
        if beyond:
            return target
        if into_source and not await self._end_stray_note(into_source, source):
            return into_source
        if into_target not in ("", source) and not await self._end_stray_note(into_target, target):
            return into_target
        return ""

    async def _end_stray_note(self, source: str, target: str) -> bool:
        """Of a fold that is noted at its target, who is locked, and not at its source: its server died before
        that, or at its end. False where it is noted there."""
        if await self._noted(source) == target:
            return False
        await self._end_note(_TARGET_JOB, target, source)
        return True

    async def _end_note(self, kind: str, user_id: str, other: str) -> None:
        """Unless it is another fold's by now."""
        names = [self._keys.shard(user_id).jobs]
        await self._store.script(script("drop_field"), names, [kind + user_id, other])

    async def _noted(self, user_id: str, kind: str = _FOLD_JOB) -> str:
        """Into whom a fold that is not finished goes, or (_TARGET_JOB) whose comes; "" = there is none."""
        noted = await self._store.one("HGET", self._keys.shard(user_id).jobs, kind + user_id)
        return noted.decode() if noted is not None else ""

    async def _finish_fold(self, source: str, now_ms: int, *, wait_s: float) -> None:
        """One that another call has begun; where it cannot be finished, the source stays. Raises Contended
        where the other call still makes it."""
        target = await self._noted(source)
        if not target:
            return
        async with self._locks.held(source, target, wait_s=wait_s) as lock:
            if await self._noted(source) == target:
                await self._note_fold(source, target, lock)  # at both: its server may have been stalled in it
                with suppress(WrongState):
                    await self._fold_noted(source, target, now_ms, lock)

    async def _fold_noted(self, source: str, target: str, now_ms: int, lock: Lock) -> int:
        try:
            moved = await self._fold(source, target, now_ms, lock)
        except WrongState:  # never to be finished
            await self._end_note(_FOLD_JOB, source, target)
            await self._end_note(_TARGET_JOB, target, source)
            raise
        await self._end_note(_TARGET_JOB, target, source)
        return moved

    async def _fold(self, source: str, target: str, now_ms: int, lock: Lock) -> int:
        closed = self._keys.shard(source).closed(self._schema.keyed_hash(source))
        moved = attempt = 0
        try:
            for attempt in range(_FOLD_ATTEMPTS):
                if attempt >= _OPEN_ATTEMPTS:  # others who relate this person wait, so that this ends
                    await self._store.one("SET", closed, "", "PX", _CLOSED_MS)
                await self._locks.keep(lock)
                is_done, new = await self._fold_once(source, target, now_ms, lock)
                moved += new
                if is_done:
                    return moved
        finally:
            if attempt >= _OPEN_ATTEMPTS:
                with suppress(Unavailable):  # what is done is done; the mark goes by itself
                    await self._store.one("UNLINK", closed)
        raise Contended.for_now(
            "somebody who is being merged is written to faster than they can be; try again later"
        )

    async def _fold_once(self, source: str, target: str, now_ms: int, lock: Lock) -> tuple[bool, int]:
        """Whether the source is out, and the events that were new to the target."""
        held = await self._held.read(source)
        await self._copy.expect_room(held.events, target)
        if not held.is_nothing:
            await self._copy.unmark(target)
        moved = await self._copy.events(held.events, source, target, partial(self._locks.keep, lock))
        fence = self._locks.fence(target, lock)
        await self._copy.seen(held.seen, target, fence)
        await self._locks.keep(lock)  # shards of others, who are related to the source, cannot ask for it
        left_out = await self._copy.relations(held, source, target, fence)
        if held.has_acted:
            await self._copy.link(held, self._mark(source), target, fence)
        withdrawal = withdrawal_of(await self._copy.chosen_by_both(held, source, target), now_ms=now_ms)
        seen = Seen(held.arrivals, held.changes)
        outcome = await self._forget(source, now_ms, seen, withdrawal=withdrawal, merged=lock)
        if outcome == _UNLOCKED:
            raise lost_lock()
        if outcome == _FORGOTTEN:
            await self._forget_with(source, target)
            with suppress(Contended):  # they are merged; the next upkeep
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
                if kind in (RELATION_JOB, OLD_RELATION_JOB):
                    relations.append(field)
                elif kind == WITHDRAWAL_JOB:
                    await self._withdrawals.repair(shard, field, now_ms=now_ms)
                else:
                    with suppress(Contended):  # the next time
                        await self._repair_person(kind, field.removeprefix(kind), now_ms)
        await self._relations.repair(relations)
        return sum(map(len, replies))

    async def _repair_person(self, kind: str, user_id: str, now_ms: int) -> None:
        """One job of a person's."""
        if kind in (_ERASE_JOB, _WEIGH_JOB):
            await self._clean(user_id, now_ms=now_ms)
        elif kind == _FOLD_JOB:
            await self._finish_fold(user_id, now_ms, wait_s=0.0)
        elif kind == _TARGET_JOB:
            async with self._locks.held(user_id, wait_s=0.0):
                if source := await self._noted(user_id, _TARGET_JOB):
                    await self._end_stray_note(source, user_id)

    async def _forget(
        self,
        user_id: str,
        now_ms: int,
        expected: Seen,
        *,
        withdrawal: str = "",
        merged: Lock | None = None,
    ) -> int:
        """merged: the lock under which another person was given everything; with a withdrawal, which else is
        read by `_clean`."""
        keys, token, keyed_hash = self._keys.shard(user_id), fresh_token(), self._schema.keyed_hash(user_id)
        names = [
            keys.gone, keys.jobs, keys.users, *own_keys(keys, user_id),
            keys.detached_history(user_id), keys.detached_forward(user_id), keys.detached_back(user_id),
            keys.detached_merged_from(user_id), keys.merged(keyed_hash), keys.known_of_merged(keyed_hash),
            keys.merges, self._locks.key(user_id),
        ]  # fmt: skip
        args: Command = [
            user_id, keyed_hash, now_ms, expected.arrivals, expected.changes, token, withdrawal,
            expected.described, "merge" if merged else "erase", _MERGE_MS, self._limits.dedupe,
            merged.token if merged else "",
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

        async def still() -> bool:
            """Else another server has ended it, and what is there now may be of a later life."""
            return bool(await self._store.one("HGET", keys.jobs, _ERASE_JOB + user_id) == job)

        if not await self._relations.drop_back(user_id, [*map(split_relation_field, relations)], still):
            return
        cursor = b"0"
        while True:  # a celebrity has more followers than one reply should hold
            cursor, flat = await self._store.one("HSCAN", back, cursor, "COUNT", _ENTRIES_A_LOOK)
            sides = [*map(split_relation_field, flat[::2])]
            if not await self._relations.drop_forward(user_id, sides, still):
                return
            if cursor == b"0":
                break
        merged_from, cursor = keys.detached_merged_from(user_id), b"0"
        while True:
            cursor, marks = await self._store.one("SSCAN", merged_from, cursor, "COUNT", _ENTRIES_A_LOOK)
            if not await self._forget_merged([mark.decode() for mark in marks], still):
                return
            if cursor == b"0":
                break
        await self._cut(user_id, keys.log, logged, CUT_LOG)
        await self._cut(user_id, keys.impressions, shown, CUT_IMPRESSIONS)
        await self._erased.note(now_ms)
        names = [keys.jobs, forward, back, merged_from]
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

    async def _cut(self, user_id: str, log: str, span: Stretch, counter: str) -> None:
        """Takes the person's entries out of a log."""
        state, first = self._keys.shard(user_id).state, span.first
        while first:
            args: Command = [user_id, first, span.last, _ENTRIES_A_LOOK, "erase", counter]
            more, _ = await self._store.script(script("sift"), [log, state], args)
            first = f"({more.decode()}" if more else ""

    def _mark(self, user_id: str) -> str:
        """Of somebody who was merged: where, and as whom, erasures would note them."""
        return f"{self._keys.shard_number(user_id)}:{self._schema.keyed_hash(user_id).hex()}"

    async def _forget_with(self, source: str, target: str) -> None:
        """Where the target was erased while the source went, it did not find the merge noted yet."""
        keys = self._keys.shard(target)
        mark = self._mark(source)

        async def is_gone() -> bool:
            linked, erased = await self._store.run(
                [
                    ("SISMEMBER", keys.merged_from(target), mark),
                    ("HEXISTS", keys.gone, self._schema.keyed_hash(target)),
                ]
            )
            return bool(erased and not linked)

        await self._forget_merged([mark], is_gone)

    async def _forget_merged(self, marks: Sequence[str], still: Callable[[], Awaitable[bool]]) -> bool:
        """False where `still` is not so any more once they were looked at: nothing is done then."""
        if not marks:
            return True
        places = []
        for shard, _, hexed in (mark.partition(":") for mark in marks):
            places.append((self._keys.shards[int(shard)], bytes.fromhex(hexed)))
        merged = await self._store.run([("HGET", keys.merges, hash_) for keys, hash_ in places])
        if not await still():
            return False
        calls: list[tuple[list[str], Command]] = [
            ([keys.gone, keys.merges, keys.known_of_merged(hash_)], [hash_, merged_at])
            for (keys, hash_), merged_at in zip(places, merged, strict=True)
            if merged_at is not None
        ]
        await self._store.scripts(script("forget_merged"), calls)
        return True
