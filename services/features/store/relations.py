"""Relations, kept on both sides so that erasing either person cleans both.

The sides live in different shards, so a relation is written in three steps, each a script:
the owner's side together with a note that it is unfinished, the other side, and the note's end.
A crash in between leaves the note, and `repair` finishes the work. Removing a relation only sets its
weight to 0: the field goes with the person, so that neither side can be left behind by a race. While either
person is being erased or merged nothing is written: it would be taken for what they were, and one side of it
removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys
from services.features.store.people import PersonStatus
from services.features.store.records import SEPARATOR, pack_relation, relation_field
from services.features.store.schema import Schema
from services.features.store.scripts import script
from shared.domain import Relation
from shared.errors import Contended

JOB = "r"
# An erasure or merge takes milliseconds, on a busy machine a second, unless its server died: then another
# ends it with its next upkeep.
_PAUSES_S = (0.02, 0.05, 0.1, 0.1, *(0.2,) * 6)
_GONE = ord("0")


@dataclass(frozen=True, slots=True)
class _Link:
    """What the second and third step need of a relation."""

    owner: str
    other: str
    kind: str
    time_ms: int

    @property
    def forward_field(self) -> str:
        return relation_field(self.kind, self.other)

    @property
    def back_field(self) -> str:
        return relation_field(self.kind, self.owner)

    @property
    def job_field(self) -> str:
        return SEPARATOR.join((f"{JOB}:{self.owner}", self.other, self.kind, str(self.time_ms)))


class Relations:
    """Relations of one domain. max_relations: of one person, removed ones included."""

    def __init__(self, store: Store, keys: DomainKeys, schema: Schema, *, max_relations: int) -> None:
        self._store, self._keys, self._schema = store, keys, schema
        self._max_relations = max_relations

    async def relate(
        self, relations: Sequence[Relation], *, by_merge: bool = False, pauses: int = 0
    ) -> list[PersonStatus]:
        """Stores or removes relations, in order; safe to repeat. by_merge: nobody has done anything by it.

        Raises Contended where an erasure or merge does not end: what of it was stored is then not known.
        """
        statuses = await self._forward(relations, by_merge)
        links = [
            _Link(r.user_id, r.other_user_id, r.kind, r.time_ms) if s is PersonStatus.STORED else None
            for r, s in zip(relations, statuses, strict=True)
        ]
        refused, waiting = await self._finish([link for link in links if link], by_merge)
        again = [n for n, status in enumerate(statuses) if status is PersonStatus.BEING_ERASED]
        again += [n for n, link in enumerate(links) if link in waiting]
        statuses = [
            PersonStatus.ERASED_PERSON if link in refused else status
            for link, status in zip(links, statuses, strict=True)
        ]
        if again:
            await self._pause(pauses)
            again.sort()
            later = await self.relate([relations[n] for n in again], by_merge=by_merge, pauses=pauses + 1)
            for n, status in zip(again, later, strict=True):
                statuses[n] = status
        return statuses

    async def _pause(self, pauses: int) -> None:
        if pauses == len(_PAUSES_S):
            raise Contended.for_now("a person of a relation is just being erased or merged; try again later")
        await asyncio.sleep(_PAUSES_S[pauses])

    async def repair(self, job_fields: Iterable[str]) -> None:
        """Finishes relations whose notes a crash left behind."""
        links: list[_Link] = []
        for field in job_fields:
            owner, other, kind, time_ms = field.split(SEPARATOR)
            links.append(_Link(owner.removeprefix(f"{JOB}:"), other, kind, int(time_ms)))
        await self._finish(links, by_merge=False)

    async def _forward(self, relations: Sequence[Relation], by_merge: bool) -> list[PersonStatus]:
        by_shard = self._keys.places_by_shard(r.user_id for r in relations)
        calls = [
            self._forward_call(shard, [relations[n] for n in places], by_merge)
            for shard, places in by_shard.items()
        ]
        statuses = [PersonStatus.STORED] * len(relations)
        replies = await self._store.scripts(script("relate"), calls)
        for places, digits in zip(by_shard.values(), replies, strict=True):
            for place, digit in zip(places, digits, strict=True):
                statuses[place] = PersonStatus(digit - 48)
        return statuses

    def _forward_call(
        self, shard: int, relations: Sequence[Relation], by_merge: bool
    ) -> tuple[list[str], Command]:
        keys = self._keys.shards[shard]
        owners = {user_id: n for n, user_id in enumerate(dict.fromkeys(r.user_id for r in relations), 1)}
        names = [keys.gone, keys.jobs, keys.users]
        args: list[bytes | str | int | float] = [self._max_relations, int(by_merge), len(owners)]
        for user_id in owners:
            keyed_hash = self._schema.keyed_hash(user_id)
            names += (keys.person(user_id), keys.forward(user_id), keys.closed(keyed_hash))
            args += (user_id, keyed_hash)
        for relation in relations:
            link = _Link(relation.user_id, relation.other_user_id, relation.kind, relation.time_ms)
            args += (
                owners[relation.user_id],
                link.forward_field,
                pack_relation(relation),
                relation.time_ms,
                int(relation.removed),
                link.job_field,
            )
        return names, args

    async def _finish(self, links: Sequence[_Link], by_merge: bool) -> tuple[set[_Link], set[_Link]]:
        """The other sides, then the notes. Returns the links that the other person's erasure refuses, and
        those that wait for its end, whose notes stay."""
        if not links:
            return set(), set()
        refused, waiting = await self._back(links, by_merge)
        lost = await self._close([link for link in links if link not in waiting], refused)
        # The owner was erased, or folded into another person, while we wrote: undo the other side.
        await self._store.run(
            [
                ("HDEL", self._keys.shard(link.other).back(link.other), link.back_field)
                for link in lost
                if link not in refused
            ],
            write=True,
        )
        return refused, waiting

    async def _back(self, links: Sequence[_Link], by_merge: bool) -> tuple[set[_Link], set[_Link]]:
        by_shard = self._keys.places_by_shard(link.other for link in links)
        calls: list[tuple[list[str], Command]] = []
        for shard, places in by_shard.items():
            keys = self._keys.shards[shard]
            names = [keys.gone, keys.jobs]
            args: list[bytes | str | int | float] = [int(by_merge)]
            for link in (links[n] for n in places):
                keyed_hash = self._schema.keyed_hash(link.other)
                names += (keys.person(link.other), keys.back(link.other), keys.closed(keyed_hash))
                args += (link.other, keyed_hash, link.back_field, link.time_ms)
            calls.append((names, args))
        replies = await self._store.scripts(script("relate_back"), calls)
        found: dict[int, set[_Link]] = {PersonStatus.ERASED_PERSON: set(), PersonStatus.BEING_ERASED: set()}
        for places, digits in zip(by_shard.values(), replies, strict=True):
            for place, digit in zip(places, digits, strict=True):
                if digit - 48 in found:
                    found[digit - 48].add(links[place])
        return found[PersonStatus.ERASED_PERSON], found[PersonStatus.BEING_ERASED]

    async def _close(self, links: Sequence[_Link], refused: set[_Link]) -> set[_Link]:
        """Ends the notes; the links that their owner no longer has."""
        by_shard = self._keys.places_by_shard(link.owner for link in links)
        calls: list[tuple[list[str], Command]] = []
        for shard, places in by_shard.items():
            keys = self._keys.shards[shard]
            names, args = [keys.jobs], list[bytes | str | int | float]()
            for link in (links[n] for n in places):
                names.append(keys.forward(link.owner))
                args += (link.job_field, link.forward_field, "drop" if link in refused else "")
            calls.append((names, args))
        replies = await self._store.scripts(script("relate_done"), calls)
        return {
            links[place]
            for places, digits in zip(by_shard.values(), replies, strict=True)
            for place, digit in zip(places, digits, strict=True)
            if digit == _GONE
        }
