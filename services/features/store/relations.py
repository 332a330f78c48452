"""Relations, kept on both sides so that erasing either person cleans both.

The sides live in different shards, so a relation is written in three steps, each a script:
the owner's side together with a note that it is unfinished, the other side, and the note's end.
A crash in between leaves the note, and `repair` finishes the work. Removing a relation only sets its
weight to 0: the field goes with the person, so that neither side can be left behind by a race. While either
person is being erased or merged nothing is written: it would be taken for what they were, and one side of it
removed.

Any server may stall between two steps while others go on. So a side is taken out, and a note ended, only
where it is still what it was when the reason was found: a back side bears a token of its writing, and each
person's own relations a version. Where it is not, the reason is looked for again. A note bears the token of
whose it is, and whoever takes it over forbids that one, if it should only have stalled, to write a back side
under it: nobody else would know of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys, ShardKeys
from services.features.store.locks import Fence, lost_lock
from services.features.store.people import PersonStatus
from services.features.store.records import (
    SEPARATOR,
    pack_relation,
    pack_relation_time,
    relation_field,
)
from services.features.store.schema import Schema
from services.features.store.scripts import script
from shared.domain import Relation
from shared.errors import Contended

JOB, OLD_JOB = "l:", "r:"  # old: of servers before, without a token
# An erasure or merge takes milliseconds, on a busy machine a second, unless its server died: then another
# ends it with its next upkeep.
_PAUSES_S = (0.02, 0.05, 0.1, 0.1, *(0.2,) * 6)
# So often a side is looked at again that others have written meanwhile; then a pause, or the next upkeep.
_LOOKS = 10
# From then on new relations of a person wait for so long, so that who reads and then removes gets to it.
_OPEN_LOOKS = 2
_CLOSED_MS = 500
_TOKEN_BYTES = 6
# So long a server may have stalled that still finds that its notes were taken over.
_TAKEN_OVER_MS = 3600 * 1000
_NOTHING_TO_REMOVE, _CLOSED, _AGAIN = ord("2"), ord("1"), ord("6")
_TAKEN_OUT, _LOCK_LOST = ord("2"), ord("8")
_UNKNOWN: Final = b"?"  # a version that there is not
_TO_COME_AGAIN: Final = frozenset((PersonStatus.BEING_ERASED, PersonStatus.TAKEN_OVER))


@dataclass(frozen=True, slots=True)
class _Link:
    """What the second and third step need of a relation."""

    owner: str
    other: str
    kind: str
    time_ms: int
    token: bytes

    @property
    def forward_field(self) -> str:
        return relation_field(self.kind, self.other)

    @property
    def back_field(self) -> str:
        return relation_field(self.kind, self.owner)

    @property
    def job_field(self) -> str:
        named = (self.owner, self.other, self.kind, str(self.time_ms), self.token.hex())
        return JOB + SEPARATOR.join(named)

    @classmethod
    def noted(cls, job_field: str) -> _Link:
        is_old = job_field.startswith(OLD_JOB)
        parts = job_field.removeprefix(OLD_JOB if is_old else JOB).split(SEPARATOR)
        owner, other, kind, time_ms, token = [*parts, ""] if is_old else parts
        return cls(owner, other, kind, int(time_ms), bytes.fromhex(token))


class Relations:
    """Relations of one domain. max_relations: of one person, removed ones included."""

    def __init__(self, store: Store, keys: DomainKeys, schema: Schema, *, max_relations: int) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._max_relations = max_relations

    async def relate(
        self, relations: Sequence[Relation], *, by_merge: Fence | None = None
    ) -> list[PersonStatus]:
        """Stores or removes relations, in order; safe to repeat. by_merge: nobody has done anything by
        it, and it must still hold its lock.

        Raises Contended where an erasure or merge does not end, or a lock is lost: what of it was stored is
        then not known.
        """
        statuses, token = [PersonStatus.BEING_ERASED] * len(relations), _token()
        for pause_s in (*_PAUSES_S, None):
            left = [n for n, status in enumerate(statuses) if status in _TO_COME_AGAIN]
            now = await self._relate([relations[n] for n in left], token, by_merge)
            for n, status in zip(left, now, strict=True):
                statuses[n] = status
            if not _TO_COME_AGAIN.intersection(now):
                return statuses
            if PersonStatus.TAKEN_OVER in now:
                token = _token()
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise Contended.for_now("a person of a relation is just being erased or merged; try again later")

    async def _relate(
        self, relations: Sequence[Relation], token: bytes, by_merge: Fence | None
    ) -> list[PersonStatus]:
        statuses, versions = await self._forward(relations, token, by_merge)
        links = {n: _link(relation, token) for n, relation in enumerate(relations) if n in versions}
        found = await self._finish({link: versions[n] for n, link in links.items()}, by_merge)
        for n, link in links.items():
            statuses[n] = found[link]
        return statuses

    async def repair(self, job_fields: Iterable[str]) -> None:
        """Finishes relations whose notes a crash left behind."""
        noted, token = {field: _Link.noted(field) for field in job_fields}, _token()
        barred = [
            self._keys.shard(link.other).taken_over(link.token) for link in noted.values() if link.token
        ]
        await self._store.run([("SET", key, "", "PX", _TAKEN_OVER_MS) for key in barred], write=True)
        calls, links = [], []
        for field, link in noted.items():
            links.append(replace(link, token=token))
            calls.append(([self._keys.shard(link.owner).jobs], [field, links[-1].job_field]))
        taken = await self._store.scripts(script("take_note"), calls)
        ours = [link for link, is_ours in zip(links, taken, strict=True) if is_ours]
        await self._finish(dict.fromkeys(ours, _UNKNOWN), by_merge=None)

    async def drop_back(
        self, user_id: str, sides: Sequence[tuple[str, str]], still: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Takes relations of somebody who is being erased out of the others'. sides: (kind, other); still:
        whether they are. False where they are not any more: what is there now may be of a later life."""
        places = [
            (self._keys.shard(other).back(other), relation_field(kind, user_id)) for kind, other in sides
        ]

        async def look(left: Sequence[int]) -> list[tuple[list[str], Command] | None]:
            values = await self._store.run([("HGET", *places[n]) for n in left])
            return [
                None if value is None else ([places[n][0]], [places[n][1], value])
                for n, value in zip(left, values, strict=True)
            ]

        return await self._drop("drop_field", [other for _, other in sides], look, still)

    async def drop_forward(
        self, user_id: str, sides: Sequence[tuple[str, str]], still: Callable[[], Awaitable[bool]]
    ) -> bool:
        """As `drop_back`, the others' relations to them. sides: (kind, owner)."""
        places = []
        for kind, owner in sides:
            keys = self._keys.shard(owner)
            places.append((keys.person(owner), keys.forward(owner), relation_field(kind, user_id)))

        async def look(left: Sequence[int]) -> list[tuple[list[str], Command] | None]:
            replies = await self._store.run(
                [
                    command
                    for person, forward, field in (places[n] for n in left)
                    for command in (("HMGET", person, "b", "o"), ("HGET", forward, field))
                ]
            )
            calls: list[tuple[list[str], Command] | None] = []
            for n, (life, number), packed in zip(left, replies[::2], replies[1::2], strict=True):
                person, forward, field = places[n]
                version = (life or b"") + b":" + (number or b"")
                found = None if packed is None else ([person, forward], [field, version, packed])
                calls.append(found)
            return calls

        return await self._drop("drop_forward", [owner for _, owner in sides], look, still)

    async def _drop(
        self,
        name: str,
        holders: Sequence[str],
        look: Callable[[Sequence[int]], Awaitable[list[tuple[list[str], Command] | None]]],
        still: Callable[[], Awaitable[bool]],
    ) -> bool:
        if not holders:
            return True
        left: Sequence[int] = range(len(holders))
        for looks in range(_LOOKS):
            if looks >= _OPEN_LOOKS:
                await self._have_wait({holders[n] for n in left})
            calls = await look(left)
            if not await still():
                return False
            there = [(n, call) for n, call in zip(left, calls, strict=True) if call is not None]
            done = await self._store.scripts(script(name), [call for _, call in there])
            left = [n for (n, _), is_done in zip(there, done, strict=True) if not is_done]
            if not left:
                return True
        raise Contended.for_now(
            "relations to a person who is being erased are written faster than they can be removed; "
            "try again later"
        )

    async def _have_wait(self, user_ids: Iterable[str]) -> None:
        """Whoever is about to write relations of these people, for a moment."""
        closed = [self._keys.shard(u).closed(self._schema.keyed_hash(u)) for u in user_ids]
        await self._store.run([("SET", key, "", "NX", "PX", _CLOSED_MS) for key in closed])

    async def _forward(
        self, relations: Sequence[Relation], token: bytes, by_merge: Fence | None
    ) -> tuple[list[PersonStatus], dict[int, bytes]]:
        """(what became of each, by place of those that were written the version of their owner's)."""
        by_shard = self._keys.places_by_shard(r.user_id for r in relations)
        calls = [
            self._forward_call(shard, [relations[n] for n in places], token, by_merge)
            for shard, places in by_shard.items()
        ]
        statuses, versions = [PersonStatus.STORED] * len(relations), dict[int, bytes]()
        replies = await self._store.scripts(script("relate"), calls)
        if any(digits[0] == _LOCK_LOST for digits, *_ in replies):
            raise lost_lock()
        for places, (digits, *of_owners) in zip(by_shard.values(), replies, strict=True):
            owners = dict(zip(_owners(relations[n] for n in places), of_owners, strict=True))
            for place, digit in zip(places, digits, strict=True):
                if digit == _NOTHING_TO_REMOVE:
                    continue
                statuses[place] = PersonStatus(digit - 48)
                if statuses[place] is PersonStatus.STORED:
                    versions[place] = owners[relations[place].user_id]
        return statuses, versions

    def _forward_call(
        self, shard: int, relations: Sequence[Relation], token: bytes, by_merge: Fence | None
    ) -> tuple[list[str], Command]:
        keys = self._keys.shards[shard]
        owners = {user_id: n for n, user_id in enumerate(_owners(relations), 1)}
        lock, merge_token = _fenced(by_merge, shard, keys)
        names = [keys.gone, keys.jobs, keys.users, lock]
        args: list[bytes | str | int | float] = [
            self._max_relations,
            int(by_merge is not None),
            merge_token,
            len(owners),
        ]
        for user_id in owners:
            keyed_hash = self._schema.keyed_hash(user_id)
            names += (keys.person(user_id), keys.forward(user_id), keys.closed(keyed_hash))
            args += (user_id, keyed_hash)
        for relation in relations:
            link = _link(relation, token)
            args += (
                owners[relation.user_id],
                link.forward_field,
                pack_relation(relation),
                relation.time_ms,
                int(relation.removed),
                link.job_field,
            )
        return names, args

    async def _finish(
        self, links: Mapping[_Link, bytes], by_merge: Fence | None
    ) -> dict[_Link, PersonStatus]:
        """The other sides, then the notes. links: with the version of their owner's at which they were
        there.

        BEING_ERASED: to be written again, as the other is just being erased or merged (the note stays), or
        was and took it along. TAKEN_OVER: another server finishes the note.
        """
        found, versions = dict[_Link, PersonStatus](), dict(links)
        for looks in range(_LOOKS):
            left = [link for link in links if link not in found]
            if not left:
                break
            if looks >= _OPEN_LOOKS:
                await self._have_wait({link.owner for link in left})
            writing = _token()
            others = dict(zip(left, await self._back(left, writing, by_merge), strict=True))
            waiting = {link: status for link, status in others.items() if status in _TO_COME_AGAIN}
            found |= waiting
            asked = {
                link: "drop" if others[link] is PersonStatus.ERASED_PERSON else "keep"
                for link in left
                if link not in waiting
            }
            taken_out = []
            for link, digit in (await self._close(asked, versions)).items():
                if asked[link] == "drop" and digit != _AGAIN:
                    found[link] = PersonStatus.ERASED_PERSON
                elif digit == _CLOSED:
                    found[link] = PersonStatus.STORED
                elif digit != _AGAIN:
                    taken_out.append(link)
            undone = dict.fromkeys(await self._undo(taken_out, writing), "undone")
            for link, digit in (await self._close(undone, versions)).items():
                if digit == _TAKEN_OUT:
                    found[link] = PersonStatus.BEING_ERASED
                elif digit != _AGAIN:  # it went with its owner
                    found[link] = PersonStatus.STORED
        return dict.fromkeys(links, PersonStatus.BEING_ERASED) | found

    async def _back(
        self, links: Sequence[_Link], writing: bytes, by_merge: Fence | None
    ) -> list[PersonStatus]:
        by_shard = self._keys.places_by_shard(link.other for link in links)
        calls: list[tuple[list[str], Command]] = []
        for shard, places in by_shard.items():
            keys = self._keys.shards[shard]
            lock, merge_token = _fenced(by_merge, shard, keys)
            names = [keys.gone, keys.jobs, lock]
            args: list[bytes | str | int | float] = [int(by_merge is not None), writing, merge_token]
            for link in (links[n] for n in places):
                keyed_hash = self._schema.keyed_hash(link.other)
                names += (keys.person(link.other), keys.back(link.other), keys.closed(keyed_hash))
                names.append(keys.taken_over(link.token))
                args += (link.other, keyed_hash, link.back_field, link.time_ms)
            calls.append((names, args))
        statuses = [PersonStatus.STORED] * len(links)
        replies = await self._store.scripts(script("relate_back"), calls)
        if any(digits[0] == _LOCK_LOST for digits in replies):
            raise lost_lock()
        for places, digits in zip(by_shard.values(), replies, strict=True):
            for place, digit in zip(places, digits, strict=True):
                statuses[place] = PersonStatus(digit - 48)
        return statuses

    async def _undo(self, links: Sequence[_Link], writing: bytes) -> list[_Link]:
        """Takes other sides back; those of which that is done."""
        calls: list[tuple[list[str], Command]] = [
            ([self._keys.shard(link.other).back(link.other)], [link.back_field, writing]) for link in links
        ]
        done = await self._store.scripts(script("drop_field"), calls)
        return [link for link, is_done in zip(links, done, strict=True) if is_done]

    async def _close(self, asked: Mapping[_Link, str], versions: dict[_Link, bytes]) -> dict[_Link, int]:
        """Ends the notes, as `relate_done.lua` says; of those to be tried again, versions are as it found
        them."""
        links = list(asked)
        by_shard = self._keys.places_by_shard(link.owner for link in links)
        calls: list[tuple[list[str], Command]] = []
        for shard, places in by_shard.items():
            keys = self._keys.shards[shard]
            names, args = [keys.jobs], list[bytes | str | int | float]()
            for link in (links[n] for n in places):
                names += (keys.person(link.owner), keys.forward(link.owner))
                time = pack_relation_time(link.time_ms)
                args += (link.job_field, link.forward_field, versions[link], time, asked[link])
            calls.append((names, args))
        replies = await self._store.scripts(script("relate_done"), calls)
        digits_of = dict[_Link, int]()
        for places, (digits, *now) in zip(by_shard.values(), replies, strict=True):
            for place, digit, version in zip(places, digits, now, strict=True):
                digits_of[links[place]] = digit
                if digit == _AGAIN:
                    versions[links[place]] = version
        return digits_of


def _fenced(by_merge: Fence | None, shard: int, keys: ShardKeys) -> tuple[str, str]:
    """(lock, token) that a script of a shard is given: of a merge with a person there, else none."""
    if by_merge is None or by_merge.shard != shard:
        return keys.jobs, ""
    return by_merge.key, by_merge.token


def _token() -> bytes:
    return secrets.token_bytes(_TOKEN_BYTES)


def _link(relation: Relation, token: bytes) -> _Link:
    return _Link(relation.user_id, relation.other_user_id, relation.kind, relation.time_ms, token)


def _owners(relations: Iterable[Relation]) -> list[str]:
    return list(dict.fromkeys(r.user_id for r in relations))
