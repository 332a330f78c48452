"""The catalogue's embeddings and categories in memory, kept current by following the change stream.

The store is the truth; each replica of this service holds a mirror of its own, a few milliseconds behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.features.background import Background
from services.features.store.connection import Store
from services.features.store.items import HalfArray, ItemStore, Position, StoredItem, changes_of
from services.features.store.keys import DomainKeys
from services.features.store.schema import Schema
from shared.domain import FloatArray
from shared.errors import Unavailable
from shared.telemetry.logs import logger

_ITEMS_A_PAGE = 500
_CHANGES_A_READ = 500
_FIRST_ROWS = 1024
_RETRY_S = (0.05, 1.0)
_LOG = logger("mirror")


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """What the mirror knows of n items, in the order asked.

    embeddings: [n, content_dim] float32, zeros for items without text or unknown ones;
    categories: one tuple an item, empty for unknown ones; missing: the ids it does not know.
    """

    embeddings: FloatArray
    categories: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...]


class ItemTable:
    """Rows of items by id; grows by doubling, uses freed rows again."""

    def __init__(self, content_dim: int) -> None:
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._vectors: HalfArray = np.zeros((_FIRST_ROWS, content_dim), np.float16)
        self._categories: list[tuple[str, ...]] = []
        self._available: list[bool] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def put(self, stored: StoredItem) -> None:
        row = self._rows.get(stored.item.item_id)
        if row is None:
            row = self._rows[stored.item.item_id] = self._free.pop() if self._free else self._new_row()
        self._vectors[row] = 0.0 if stored.vector is None else stored.vector
        self._categories[row] = stored.item.categories
        self._available[row] = stored.item.available

    def drop(self, item_id: str) -> None:
        row = self._rows.pop(item_id, None)
        if row is not None:
            self._free.append(row)

    def available(self, item_id: str) -> bool:
        row = self._rows.get(item_id)
        return row is not None and self._available[row]

    def embeddings(self, item_ids: Sequence[str]) -> FloatArray:
        """[n, content_dim] float32, zeros for items without text or without a row."""
        places = np.array([self._rows.get(item_id, -1) for item_id in item_ids], np.int64)
        found = self._vectors[places].astype(np.float32)
        found[places < 0] = 0.0
        return found

    def facts(self, item_ids: Sequence[str], extra: dict[str, StoredItem] | None = None) -> ItemFacts:
        """`extra`: items read elsewhere, for ids that have no row yet."""
        rows = [self._rows.get(item_id, -1) for item_id in item_ids]
        places = np.array(rows, np.int64)
        embeddings = self._vectors[places].astype(np.float32)
        categories = [self._categories[row] if row >= 0 else () for row in rows]
        unknown = np.flatnonzero(places < 0)
        embeddings[unknown] = 0.0
        missing: dict[str, None] = {}
        for place in unknown.tolist():
            found = extra.get(item_ids[place]) if extra else None
            if found is None:
                missing[item_ids[place]] = None
                continue
            categories[place] = found.item.categories
            if found.vector is not None:
                embeddings[place] = found.vector
        return ItemFacts(embeddings, tuple(categories), tuple(missing))

    def _new_row(self) -> int:
        row = len(self._categories)
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._categories.append(())
        self._available.append(False)
        return row


class ItemMirror:
    """One domain's table and the task that keeps it current."""

    def __init__(
        self, store: Store, items: ItemStore, keys: DomainKeys, schema: Schema, *, content_dim: int
    ) -> None:
        self._store, self._items, self._keys, self._schema = store, items, keys, schema
        self._content_dim = content_dim
        self._follower = Background()
        self._moved = asyncio.Condition()
        self._epoch = schema.epoch
        self.table = ItemTable(content_dim)
        self.revision = 0

    async def start(self) -> None:
        """Returns once the whole catalogue is held."""
        await self._load()
        self._follower.start(self._follow_for_ever())

    async def close(self) -> None:
        await self._follower.close()

    async def wait_past(self, revision: int, *, timeout_s: float) -> None:
        """Returns once a change after `revision` is seen, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.revision > revision)

    async def _load(self) -> None:
        """The catalogue as it is now. Changes made meanwhile come again when following."""
        position = await self._items.position()
        if not position.epoch:
            await self._schema.write_again(self._store)
            position = await self._items.position()
        table = ItemTable(self._content_dim)
        after = ""
        while ids := await self._items.page(after, _ITEMS_A_PAGE):
            for stored in (await self._items.read(ids, vectors=True)).values():
                table.put(stored)
            after = ids[-1]
        self.table, self._epoch = table, position.epoch
        await self._move_to(position.revision)

    async def _follow_for_ever(self) -> None:
        pause_s = _RETRY_S[0]
        lost = False
        while True:
            try:
                if lost:
                    await self._load()  # the store may have come back as another one
                    _LOG.info("items_followed_again", domain=self._keys.domain, revision=self.revision)
                    lost, pause_s = False, _RETRY_S[0]
                await self._follow()
            except Unavailable as error:
                if not lost:
                    _LOG.warning("items_not_followed", domain=self._keys.domain, error=str(error))
                lost = True
            except Exception:
                # One bad entry must not end the following: say so, and begin with what is stored now.
                _LOG.exception("items_not_followed", domain=self._keys.domain)
                lost = True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RETRY_S[1])

    async def _follow(self) -> None:
        """Until an error."""
        async with self._store.following(self._keys.item_changes) as stream:
            while True:
                entries = await stream.after(f"{self.revision}-0", count=_CHANGES_A_READ)
                changes = changes_of(entries, self.revision)
                if changes is None or (not entries and await self._is_elsewhere()):
                    await self._load()
                elif changes.item_ids:
                    await self._apply(changes.item_ids)
                    await self._move_to(changes.revision)

    async def _is_elsewhere(self) -> bool:
        """Whether the store is another one than was followed, as after a restore: nothing would come for as
        long as its changes are fewer."""
        now: Position = await self._items.position()
        return now.epoch != self._epoch or now.revision < self.revision

    async def _apply(self, item_ids: Iterable[str]) -> None:
        ids = list(item_ids)
        found = await self._items.read(ids, vectors=True)
        for item_id in ids:
            stored = found.get(item_id)
            if stored is None:
                self.table.drop(item_id)
            else:
                self.table.put(stored)

    async def _move_to(self, revision: int) -> None:
        async with self._moved:
            self.revision = revision
            self._moved.notify_all()
