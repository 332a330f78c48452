"""What happens to items on their way in and out: embedding, unchanged ones, watching."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from enum import Enum, auto
from hashlib import blake2b

from services.features.mirror import ItemMirror
from services.features.store.items import (
    KEEP_VECTOR,
    HalfArray,
    ItemStore,
    ItemWrite,
    Position,
    PutStatus,
    StoredItem,
    pack_vector,
)
from services.features.store.records import pack_item
from services.features.store.trending import Trending
from shared.content import ENCODER, TextEncoder, item_text
from shared.domain import Item
from shared.errors import StaleCursor

_ITEMS_A_MESSAGE = 500
_BYTES_A_MESSAGE = 1 << 20
_POLL_S = 1.0
_REVISION_DIGITS = 18  # what the store counts by has 64 bits


class ItemOutcome(Enum):
    CREATED = auto()
    UPDATED = auto()
    UNCHANGED = auto()
    DELETED = auto()
    NOT_FOUND = auto()


_OUTCOMES = {PutStatus.CREATED: ItemOutcome.CREATED, PutStatus.UPDATED: ItemOutcome.UPDATED}


@dataclass(frozen=True, slots=True, eq=False)
class WatchedItem:
    """One change: `item` None = deleted. vector: [content_dim] float16, None where not asked for."""

    item_id: str
    item: Item | None
    vector: HalfArray | None = None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Changes of one message; `cursor` is empty inside the snapshot, which cannot be resumed."""

    changes: tuple[WatchedItem, ...]
    cursor: str
    snapshot_complete: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """An item to be stored. over: the stored document whose vector it keeps; None: it gets one of its own."""

    place: int
    item: Item
    document: bytes
    over: bytes | None


class Catalogue:
    """Items of one domain."""

    def __init__(
        self,
        items: ItemStore,
        mirror: ItemMirror,
        trending: Trending,
        encoder: TextEncoder,
        threads: Executor,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._items, self._mirror, self._trending = items, mirror, trending
        self._encoder, self._threads = encoder, threads
        self._clock = clock

    async def upsert(self, items: Sequence[Item]) -> list[ItemOutcome]:
        """Stores what is new or different, in order; equal items change and announce nothing.

        An item whose text is as it was keeps its vector, unless others have changed or deleted it by then:
        it gets one of its own in a second round, and so do the items of the same id after it.
        """
        known = await self._items.read(list(dict.fromkeys(item.item_id for item in items)))
        outcomes = [ItemOutcome.UNCHANGED] * len(items)
        changes: list[_Change] = []
        for place, given in enumerate(items):
            stored = known.get(given.item_id)
            item = replace(given, created_ms=given.created_ms or _created(stored) or self._clock())
            embedded = _embedded(item)
            if stored is not None and stored.item == item and stored.embedded == embedded:
                continue
            document = pack_item(item, embedded)
            same_text = stored is not None and stored.embedded == embedded
            changes.append(_Change(place, item, document, stored.document if stored and same_text else None))
            known[item.item_id] = StoredItem(item, embedded, document=document)
        stale = await self._put(changes, outcomes)
        await self._put([replace(c, over=None) for c in changes if c.item.item_id in stale], outcomes)
        return outcomes

    async def _put(self, changes: Sequence[_Change], outcomes: list[ItemOutcome]) -> set[str]:
        """Notes outcomes; the ids of items that were not stored, as there was no vector to keep."""
        vectors = iter(await self._encode([change.item for change in changes if change.over is None]))
        writes = [
            ItemWrite(change.item.item_id, change.document, next(vectors))
            if change.over is None
            else ItemWrite(change.item.item_id, change.document, KEEP_VECTOR, change.over)
            for change in changes
        ]
        stale: set[str] = set()
        for change, status in zip(changes, await self._items.put(writes), strict=True):
            if status is PutStatus.STALE:
                stale.add(change.item.item_id)
            else:
                outcomes[change.place] = _OUTCOMES[status]
        return stale

    async def delete(self, item_ids: Sequence[str]) -> list[ItemOutcome]:
        existed = await self._items.drop(item_ids)
        await self._trending.drop(item_ids)
        return [ItemOutcome.DELETED if e else ItemOutcome.NOT_FOUND for e in existed]

    async def get(self, item_ids: Sequence[str]) -> tuple[list[Item], list[str]]:
        """(known items in the order asked, unknown ids)."""
        found = await self._items.read(list(dict.fromkeys(item_ids)))
        items = [found[item_id].item for item_id in item_ids if item_id in found]
        return items, [item_id for item_id in item_ids if item_id not in found]

    async def page(self, after: str, count: int) -> tuple[list[Item], str, int]:
        """(items by id after `after`, the last id or "" on the last page, total)."""
        ids = await self._items.page(after, count + 1)
        items = [stored.item for stored in (await self._items.read(ids[:count])).values()]
        return items, ids[count - 1] if len(ids) > count else "", await self._items.count()

    async def watch(self, cursor: str, *, vectors: bool) -> AsyncGenerator[WatchBatch, None]:
        """Snapshot (unless `cursor` resumes), then changes for ever.

        Holds nothing but a revision between messages, so a slow follower costs no memory: one that is
        slower than the stream is long gets StaleCursor.
        """
        if cursor:
            at = _position_of(cursor)
        else:
            at = await self._items.position()
            async for changes in self._snapshot(vectors):
                yield WatchBatch(changes, "")
            yield WatchBatch((), _cursor(at), snapshot_complete=True)
        while True:
            changed = await self._items.changes_after(at, count=_ITEMS_A_MESSAGE)
            if changed is None:
                raise StaleCursor(
                    f"cursor must be within the kept changes of this store, got {cursor or _cursor(at)!r}: "
                    "watch again without it"
                )
            if not changed.item_ids:
                await self._mirror.wait_past(at.revision, timeout_s=_POLL_S)
                continue
            found = await self._items.read(changed.item_ids, vectors=vectors)
            batches = _batches([_watched(i, found.get(i)) for i in changed.item_ids])
            for batch in batches[:-1]:
                yield WatchBatch(batch, _cursor(at))
            at = replace(at, revision=changed.revision)
            yield WatchBatch(batches[-1], _cursor(at))

    async def _snapshot(self, vectors: bool) -> AsyncGenerator[tuple[WatchedItem, ...], None]:
        after = ""
        while ids := await self._items.page(after, _ITEMS_A_MESSAGE):
            found = await self._items.read(ids, vectors=vectors)
            for batch in _batches([_watched(item_id, found[item_id]) for item_id in ids if item_id in found]):
                yield batch
            after = ids[-1]

    async def _encode(self, items: Sequence[Item]) -> list[bytes]:
        """Packed vectors; the encoder works on its own thread."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._threads, self._encoder.encode_items, items)
        return [pack_vector(v) if item_text(item) else b"" for v, item in zip(vectors, items, strict=True)]


def _cursor(at: Position) -> str:
    return f"{at.epoch}:{at.revision}"


def _position_of(cursor: str) -> Position:
    epoch, _, revision = cursor.partition(":")
    plain = revision.isascii() and revision.isdigit() and len(revision) <= _REVISION_DIGITS
    if not epoch or not plain:
        raise StaleCursor(f"cursor must be one that this stream gave, got {cursor!r}: watch again without it")
    return Position(epoch, int(revision))


def _created(stored: StoredItem | None) -> int:
    return stored.item.created_ms if stored else 0


def _embedded(item: Item) -> str:
    """Names what an item's embedding stands for: encoder and text."""
    return f"{ENCODER}:{blake2b(item_text(item).encode(), digest_size=8).hexdigest()}"


def _watched(item_id: str, stored: StoredItem | None) -> WatchedItem:
    return WatchedItem(item_id, stored.item if stored else None, stored.vector if stored else None)


def _batches(items: Sequence[WatchedItem]) -> list[tuple[WatchedItem, ...]]:
    """Split so that no message grows past about a megabyte of text and vectors; at least one batch."""
    batches: list[list[WatchedItem]] = [[]]
    size = 0
    for watched in items:
        weight = _size(watched)
        if batches[-1] and size + weight > _BYTES_A_MESSAGE:
            batches.append([])
            size = 0
        batches[-1].append(watched)
        size += weight
    return [tuple(batch) for batch in batches]


def _size(watched: WatchedItem) -> int:
    """About the bytes of its message."""
    item = watched.item
    texts = 0 if item is None else len(item.description) + len(item.title) + 64 * len(item.attributes)
    return 256 + 4 * texts + (0 if watched.vector is None else watched.vector.nbytes)
