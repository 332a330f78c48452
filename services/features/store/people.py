"""People: attributes, relations on both sides, and what is read of one person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys
from services.features.store.records import (
    pack_attributes,
    unpack_attributes,
    unpack_history,
    unpack_relations,
)
from services.features.store.schema import Schema
from services.features.store.scripts import script
from shared.domain import History, Relation, User


class PersonStatus(IntEnum):
    """What became of one person or relation; numbers as the scripts give them. BEING_ERASED: a relation is
    not stored just now, and may be a moment later; TAKEN_OVER: another server finishes it, as if this one had
    died."""

    STORED = 1
    ERASED_PERSON = 3
    TOO_MANY = 4
    BEING_ERASED = 5
    TAKEN_OVER = 7


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of one person now. total_events: ever recorded, impressions aside.

    seen_item_ids: newest first. relations: strongest first.
    """

    user_id: str
    history: History
    seen_item_ids: tuple[str, ...]
    attributes: Mapping[str, str]
    total_events: int
    relations: tuple[Relation, ...]


class People:
    """Profiles of one domain."""

    def __init__(self, store: Store, keys: DomainKeys, schema: Schema) -> None:
        self._store, self._keys, self._schema = store, keys, schema

    async def read(self, user_id: str, *, max_seen: int) -> Person:
        """One round trip; an unknown person is empty."""
        keys = self._keys.shard(user_id)
        history, seen, person, forward = await self._store.run(
            [
                ("ZRANGE", keys.history(user_id), 0, -1),
                ("ZREVRANGE", keys.seen(user_id), 0, max_seen - 1),
                ("HMGET", keys.person(user_id), "a", "n"),
                ("HGETALL", keys.forward(user_id)),
            ]
        )
        attributes, total = person
        return Person(
            user_id,
            unpack_history(history),
            tuple(item_id.decode() for item_id in seen),
            unpack_attributes(attributes),
            int(total or 0),
            tuple(unpack_relations(user_id, pairs(forward))),
        )

    def latest_command(self, user_id: str, count: int) -> Command:
        """Reads the latest `count` events; give the reply to `unpack_history`."""
        return ("ZRANGE", self._keys.shard(user_id).history(user_id), -count, -1)

    async def describe(self, users: Sequence[User]) -> list[PersonStatus]:
        """Stores attributes, replacing those of the same person; in order, so the last of several wins."""
        by_shard = self._keys.places_by_shard(user.user_id for user in users)
        calls: list[tuple[list[str], Command]] = []
        for shard, places in by_shard.items():
            keys = self._keys.shards[shard]
            names = [keys.gone, keys.users]
            args: list[bytes | str | int | float] = []
            for place in places:
                user = users[place]
                names.append(keys.person(user.user_id))
                args += (
                    user.user_id,
                    self._schema.keyed_hash(user.user_id),
                    pack_attributes(user.attributes),
                )
            calls.append((names, args))
        replies = await self._store.scripts(script("describe"), calls)
        statuses = [PersonStatus.STORED] * len(users)
        for places, digits in zip(by_shard.values(), replies, strict=True):
            for place, digit in zip(places, digits, strict=True):
                statuses[place] = PersonStatus(digit - 48)
        return statuses


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A flat reply of HGETALL as a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
