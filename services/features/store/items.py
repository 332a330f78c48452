"""The catalogue: documents, content embeddings and the stream of changes, all in one slot a domain.

A change entry names an item, not its content: whoever follows reads what the item is now, so that
catching up after many changes of one item costs one read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.features.store.connection import Store
from services.features.store.keys import DomainKeys
from services.features.store.records import unpack_item
from services.features.store.scripts import script
from shared.domain import Item

_BYTES_A_SCRIPT = 1 << 20
KEEP_VECTOR = b"="
HalfArray = NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class StoredItem:
    """An item with what its embedding stands for; vector [content_dim] float16, None where not read;
    document: as the store holds it."""

    item: Item
    embedded: str
    vector: HalfArray | None = None
    document: bytes = b""


@dataclass(frozen=True, slots=True)
class ItemWrite:
    """One item on its way in. vector: float16 bytes, b"" = no text, KEEP_VECTOR = as stored with the document
    `over`."""

    item_id: str
    document: bytes
    vector: bytes
    over: bytes = b""


class PutStatus(IntEnum):
    """What became of a write; numbers as `put_items.lua` gives them. STALE: not stored, as there is another
    document than the one whose vector it would keep."""

    STALE = 0
    CREATED = 1
    UPDATED = 2


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream of changes. epoch: of the store's incarnation, "" where it has no schema (it has
    lost everything); revision: the number of changes ever made in it."""

    epoch: str
    revision: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Changed item ids after a revision, oldest first, each once; `revision` is the last one's."""

    item_ids: tuple[str, ...]
    revision: int


class ItemStore:
    """Items of one domain."""

    def __init__(self, store: Store, keys: DomainKeys, *, max_changes: int) -> None:
        self._store, self._keys, self._max_changes = store, keys, max_changes
        self._all = [
            keys.item_docs,
            keys.item_vectors,
            keys.item_ids,
            keys.item_changes,
            keys.item_state,
        ]

    async def read(self, item_ids: Sequence[str], *, vectors: bool = False) -> dict[str, StoredItem]:
        """Those of the ids that exist, in the order asked."""
        if not item_ids:
            return {}
        commands = [("HMGET", self._keys.item_docs, *item_ids)]
        if vectors:
            commands.append(("HMGET", self._keys.item_vectors, *item_ids))
        docs, *rest = await self._store.run(commands)
        packed = rest[0] if vectors else [None] * len(item_ids)
        found: dict[str, StoredItem] = {}
        for item_id, doc, vector in zip(item_ids, docs, packed, strict=True):
            if doc is not None:
                item, embedded = unpack_item(item_id, doc)
                found[item_id] = StoredItem(item, embedded, _unpack_vector(vector), doc)
        return found

    async def put(self, writes: Sequence[ItemWrite]) -> list[PutStatus]:
        """Stores and announces."""
        statuses: list[PutStatus] = []
        for part in _parts(writes):
            args: list[bytes | str | int | float] = [self._max_changes]
            for write in part:
                args += (write.item_id, write.document, write.vector, write.over)
            digits = await self._store.script(script("put_items"), self._all, args)
            statuses += [PutStatus(digit - ord("0")) for digit in digits]
        return statuses

    async def drop(self, item_ids: Sequence[str]) -> list[bool]:
        """Deletes and announces; True where the item existed."""
        if not item_ids:
            return []
        digits = await self._store.script(script("drop_items"), self._all, [self._max_changes, *item_ids])
        return [digit == ord("1") for digit in digits]

    async def page(self, after: str, count: int) -> list[str]:
        """The next item ids in byte order after `after`; "" = from the first."""
        start = f"({after}" if after else "-"
        ids = await self._store.one("ZRANGE", self._keys.item_ids, start, "+", "BYLEX", "LIMIT", 0, count)
        return [item_id.decode() for item_id in ids]

    async def count(self) -> int:
        return int(await self._store.one("ZCARD", self._keys.item_ids))

    async def position(self) -> Position:
        """The last change's."""
        return _position(*await self._store.run(self._where()))

    async def changes_after(self, at: Position, *, count: int) -> Changes | None:
        """The next changes, None where the stream no longer reaches back so far, or never got there: a store
        that was restored from a backup has another epoch, and its revisions count anew what came since."""
        entries, *where = await self._store.run(
            [
                ("XRANGE", self._keys.item_changes, f"({at.revision}-0", "+", "COUNT", count),
                *self._where(),
            ]
        )
        now = _position(*where)
        if at.epoch != now.epoch or at.revision > now.revision:
            return None
        return changes_of(entries, at.revision)

    def _where(self) -> list[tuple[str, str, str]]:
        return [("HGET", self._keys.schema, "epoch"), ("HGET", self._keys.item_state, "revision")]


def _position(epoch: bytes | None, revision: bytes | None) -> Position:
    return Position((epoch or b"").decode(), int(revision or 0))


def changes_of(entries: Sequence[tuple[bytes, Sequence[bytes]]], revision: int) -> Changes | None:
    """Stream entries after `revision`; None where entries between were trimmed away."""
    if not entries:
        return Changes((), revision)
    first, last = (int(entry[0].partition(b"-")[0]) for entry in (entries[0], entries[-1]))
    if first != revision + 1:
        return None
    return Changes(tuple(dict.fromkeys(entry[1][1].decode() for entry in entries)), last)


def pack_vector(vector: NDArray[Any]) -> bytes:
    return vector.astype("<f2").tobytes()


def _unpack_vector(packed: bytes | None) -> HalfArray | None:
    return np.frombuffer(packed, "<f2") if packed else None


def _parts(writes: Sequence[ItemWrite]) -> list[list[ItemWrite]]:
    """About a megabyte each, so that one script never holds the server up for long."""
    parts: list[list[ItemWrite]] = []
    size = _BYTES_A_SCRIPT
    for write in writes:
        if size >= _BYTES_A_SCRIPT:
            parts.append([])
            size = 0
        parts[-1].append(write)
        size += len(write.document) + len(write.vector) + len(write.over)
    return parts
