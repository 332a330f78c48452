"""Follows the item stream: the whole catalogue first, then each change, across reconnections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import structlog

from shared.errors import StaleCursor, WarmstartError
from shared.items import Content, same_content

_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 1.0
_log = structlog.get_logger(part="items")


@dataclass(frozen=True, slots=True)
class FeedBatch:
    """Some changes, in order. changes: (item id, content embedding, or None where the item is gone).

    cursor: resume point after them. snapshot_complete: the catalogue has been sent whole.
    """

    changes: Sequence[tuple[str, Content | None]]
    cursor: str
    snapshot_complete: bool = False


class ItemFeed(Protocol):
    """The feature service's item stream; see WatchItems in feature_service.proto."""

    def watch(self, domain: str, cursor: str) -> AsyncGenerator[FeedBatch, None]:
        """With no cursor: the whole catalogue first. Raises StaleCursor, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """What happened since it was last asked; see `LiveItems.apply`."""

    changes: Mapping[str, Content | None]
    keep_only: Set[str] | None


class ItemFollower:
    """The catalogue of one domain as the stream tells it, and what of it is still to be applied.

    Lives on one event loop. `run` follows for ever; `next_changes` gives what has gathered since.
    """

    def __init__(self, feed: ItemFeed, domain: str) -> None:
        self._feed = feed
        self._domain = domain
        self._content: dict[str, Content] = {}
        self._changes: dict[str, Content | None] = {}
        self._reconcile = False
        self._snapshot: set[str] | None = None  # ids of the snapshot being received
        self._cursor = ""
        self._gathered = asyncio.Event()
        self.complete = asyncio.Event()  # set once a whole snapshot has been received

    async def run(self) -> None:
        """Follows the stream until cancelled; reconnects where it left off."""
        backoff_s = _FIRST_BACKOFF_S
        healthy = True
        while True:
            try:
                self._snapshot = None if self._cursor else set()
                async with aclosing(self._feed.watch(self._domain, self._cursor)) as batches:
                    async for batch in batches:
                        self._take(batch)
                        if not healthy:
                            _log.info("item_stream_back", domain=self._domain)
                        healthy, backoff_s = True, _FIRST_BACKOFF_S
            except StaleCursor:
                _log.info("item_stream_restarted", domain=self._domain, cursor=self._cursor)
                self._cursor = ""
                continue
            except WarmstartError as error:
                if healthy:
                    _log.warning("item_stream_away", domain=self._domain, error=str(error))
                healthy = False
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def next_changes(self) -> Pending:
        """Waits until something happened; gives all of it, the latest state of each item."""
        await self._gathered.wait()
        self._gathered.clear()
        changes, self._changes = self._changes, {}
        reconcile, self._reconcile = self._reconcile, False
        return Pending(changes, set(self._content) if reconcile else None)

    def everything(self) -> Pending:
        """The catalogue as far as it is known, for a model that has just been loaded."""
        return Pending(dict(self._content), set(self._content) if self.complete.is_set() else None)

    def _take(self, batch: FeedBatch) -> None:
        for item_id, content in batch.changes:
            if self._snapshot is not None:
                (self._snapshot.discard if content is None else self._snapshot.add)(item_id)
            if content is None:
                self._content.pop(item_id, None)
                self._changes[item_id] = None
                continue
            known = self._content.get(item_id)
            if known is None or known.shape != content.shape or not same_content(known, content):
                self._content[item_id] = self._changes[item_id] = content
        if batch.snapshot_complete:
            self._close_snapshot()
        if self._snapshot is None:  # half a snapshot is no state to resume from
            self._cursor = batch.cursor or self._cursor
        if self._changes or self._reconcile:
            self._gathered.set()

    def _close_snapshot(self) -> None:
        """What the catalogue no longer holds is gone, also what only the artifact knew."""
        kept = self._snapshot if self._snapshot is not None else set(self._content)
        self._content = {i: c for i, c in self._content.items() if i in kept}
        self._snapshot = None
        self._reconcile = True
        self.complete.set()
