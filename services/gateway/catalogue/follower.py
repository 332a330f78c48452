"""Keeps the mirrors up to date: follows each domain's item stream through losses of its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.gateway.catalogue.mirror import Mirror
from services.gateway.ports import CatalogueChanges, Features
from shared.domain import Item
from shared.errors import StaleCursor, WarmstartError
from shared.telemetry.logs import logger

_LOG = logger("gateway.catalogue")
_PAUSE_S = 0.25


class Catalogue:
    """The mirrors of all served domains, and the tasks that follow their streams."""

    def __init__(self, features: Features, domains: Sequence[str]) -> None:
        self._features = features
        self._mirrors = {domain: Mirror() for domain in domains}
        self._ready = {domain: asyncio.Event() for domain in domains}
        self._errors: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, domain: str) -> Mirror:
        return self._mirrors[domain]

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(domain)) for domain in self._mirrors]

    async def wait_complete(self) -> None:
        """Returns once every domain's first snapshot is whole."""
        for ready in self._ready.values():
            await ready.wait()

    @property
    def incomplete(self) -> dict[str, str]:
        """Domains whose first snapshot is not whole yet, with the last error of their stream."""
        return {d: self._errors.get(d, "no answer") for d, ready in self._ready.items() if not ready.is_set()}

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, domain: str) -> None:
        """Forever: a snapshot first, then from the last cursor, a snapshot again where that is too old."""
        cursor, lost = "", False
        while True:
            try:
                async with aclosing(self._positions(domain, cursor)) as positions:
                    async for position in positions:
                        if lost:
                            _LOG.info("item stream back", domain=domain)
                        cursor, lost = position, False
            except StaleCursor:
                cursor = ""
            except WarmstartError as error:
                if not lost:
                    _LOG.warning("item stream lost", domain=domain, error=str(error))
                lost = True
                self._errors[domain] = str(error)
            except Exception:
                # A bug must not end the mirror for good: the next round starts from a snapshot.
                _LOG.exception("item stream failed", domain=domain)
                cursor = ""
            await asyncio.sleep(_PAUSE_S)

    async def _positions(self, domain: str, cursor: str) -> AsyncGenerator[str, None]:
        """Applies the stream; yields the cursor to resume after, "" until the snapshot is whole."""
        snapshot: list[Item] | None = None if cursor else []
        async with aclosing(self._features.watch(domain, cursor)) as stream:
            async for changes in stream:
                if snapshot is None:
                    _apply(self._mirrors[domain], changes)
                    yield changes.cursor
                    continue
                gone = set(changes.deleted)
                snapshot = [i for i in snapshot if i.item_id not in gone] if gone else snapshot
                snapshot.extend(changes.upserted)
                if changes.complete:
                    # Swapped as a whole: what was deleted meanwhile is gone; nobody sees half a catalogue.
                    self._mirrors[domain] = Mirror.of(snapshot)
                    self._ready[domain].set()
                    snapshot = None
                    yield changes.cursor
                else:
                    yield ""


def _apply(mirror: Mirror, changes: CatalogueChanges) -> None:
    for item in changes.upserted:
        mirror.upsert(item)
    for item_id in changes.deleted:
        mirror.delete(item_id)
