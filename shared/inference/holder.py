"""The models a server holds: watch the registry → load → warm → swap one reference; keep their items live.

Calls in work keep the version they began with, so a swap drops none of them. A version that cannot be
loaded is refused with an error in the log, and the one before stays; at a start, the latest champion
before it that can be loaded serves meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from shared.artifacts import Artifact, Registry
from shared.domain import HeldModel, ModelRef
from shared.errors import ModelNotHeld, NoModel, WarmstartError
from shared.inference.follower import ItemFeed, ItemFollower, Pending
from shared.items import LiveItems

VERSIONS_HELD = 2
_RETRY_S, _MAX_RETRY_S = 1.0, 60.0
# Changes that arrive together are applied together.
_GATHER_S = 0.02
_log = structlog.get_logger(part="models")


class Version(Protocol):
    """What a service makes of an artifact: loaded, warm, with live items."""

    @property
    def ref(self) -> ModelRef: ...
    @property
    def items(self) -> LiveItems: ...
    def describe(self) -> HeldModel: ...


V = TypeVar("V", bound=Version)


@dataclass(frozen=True, slots=True)
class HolderTimes:
    """interval_s: how often the registry is looked at. catalogue_wait_s: how long the first model waits for
    the catalogue before it serves the artifact's items alone."""

    interval_s: float = 0.5
    catalogue_wait_s: float = 10.0


class ModelHolder(Generic[V]):
    """The last versions of one domain, the champion first. Lives on one event loop.

    load: makes a version of an artifact, off the event loop; raises where it does not work.
    feed: the item stream; None = the artifact's items alone.
    """

    def __init__(
        self,
        domain: str,
        registry: Registry,
        load: Callable[[Artifact], V],
        feed: ItemFeed | None,
        times: HolderTimes = HolderTimes(),
    ) -> None:
        self.domain = domain
        self._registry = registry
        self._load = load
        self._times = times
        self._follower = ItemFollower(feed, domain) if feed is not None else None
        self._held: tuple[V, ...] = ()
        self._applying = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._settled = asyncio.Event()  # the first champion is held, or was refused, or there is none
        self.ready = asyncio.Event()  # a model is held

    def start(self) -> None:
        """Begins to watch, load and follow."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch(), name=f"models {self.domain}")]
        if self._follower is not None:
            self._tasks.append(loop.create_task(self._follower.run(), name=f"item stream {self.domain}"))
            self._tasks.append(
                loop.create_task(self._apply_changes(self._follower), name=f"items {self.domain}")
            )

    async def settled(self) -> None:
        """Returns once the champion of now is held or refused, or there is none yet."""
        await self._settled.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def held(self) -> tuple[V, ...]:
        """The champion first."""
        return self._held

    def get(self, version: str = "") -> V:
        """The version asked for; the champion where it is empty.

        Raises NoModel where none is held yet, ModelNotHeld (naming those held) where another is asked for.
        """
        held = self._held
        if not held:
            raise NoModel(f"no model of domain {self.domain!r} is held yet", metadata={"domain": self.domain})
        if not version:
            return held[0]
        for one in held:
            if one.ref.version == version:
                return one
        raise ModelNotHeld(self.domain, version, [one.ref.version for one in held])

    async def _watch(self) -> None:
        if await asyncio.to_thread(self._champion) is None:
            self._settled.set()
        async for ref in self._registry.watch(self.domain, self._times.interval_s):
            await self._take_until_done(ref)

    def _champion(self) -> ModelRef | None:
        try:
            return self._registry.champion(self.domain)
        except WarmstartError:  # a damaged alias; `watch` reports it
            return None

    async def _take_until_done(self, ref: ModelRef) -> None:
        """Retries while this is the champion: files may arrive late on a shared file system."""
        pause_s = _RETRY_S
        while True:
            try:
                await self._take(ref)
                return
            except Exception as error:
                serving = self._held[0].ref.version if self._held else None
                fields = {"domain": self.domain, "version": ref.version, "serving": serving}
                if isinstance(error, WarmstartError):
                    _log.error("model_refused", error=str(error), **fields)
                else:
                    _log.error("model_refused", exc_info=error, **fields)
                if not self._held:
                    await self._take_an_earlier()
            finally:
                self._settled.set()
            if not await self._still_champion(ref, pause_s):
                return
            pause_s = min(2 * pause_s, _MAX_RETRY_S)

    async def _take_an_earlier(self) -> None:
        """Holds the latest of the earlier champions that works, if one does."""
        for ref in await asyncio.to_thread(self._earlier_champions):
            try:
                await self._take(ref)
                return
            except Exception as error:
                fields = {"domain": self.domain, "version": ref.version}
                _log.error("earlier_model_refused", exc_info=error, **fields)

    def _earlier_champions(self) -> list[ModelRef]:
        try:
            return self._registry.earlier_champions(self.domain)
        except WarmstartError:  # a damaged alias; `watch` reports it
            return []

    async def _still_champion(self, ref: ModelRef, pause_s: float) -> bool:
        """True after `pause_s`, False as soon as another version is the champion."""
        loop = asyncio.get_running_loop()
        until = loop.time() + pause_s
        while loop.time() < until:
            await asyncio.sleep(self._times.interval_s)
            if await asyncio.to_thread(self._champion) != ref:
                return False
        return True

    async def _take(self, ref: ModelRef) -> None:
        """Makes `ref` the first of those held."""
        known = next((one for one in self._held if one.ref == ref), None)
        if known is None:
            artifact = await asyncio.to_thread(self._registry.open, ref)
            version = await asyncio.to_thread(self._load, artifact)
            await self._adopt(version)
        else:
            self._hold(known)
        _log.info(
            "model_serving", domain=self.domain, version=ref.version, items=self._held[0].describe().num_items
        )

    async def _adopt(self, version: V) -> None:
        """Brings its items up to date, then swaps it in; changes wait meanwhile."""
        if self._follower is not None and not self._held:
            await self._wait_for_catalogue(self._follower)
        async with self._applying:
            if self._follower is not None:
                await self._apply(self._follower.everything(), [version])
            self._hold(version)

    async def _wait_for_catalogue(self, follower: ItemFollower) -> None:
        try:
            async with asyncio.timeout(self._times.catalogue_wait_s):
                await follower.complete.wait()
        except TimeoutError:
            _log.warning("catalogue_not_here_yet", domain=self.domain, waited_s=self._times.catalogue_wait_s)

    def _hold(self, version: V) -> None:
        others = [one for one in self._held if one.ref != version.ref]
        self._held = (version, *others)[:VERSIONS_HELD]
        self.ready.set()

    async def _apply_changes(self, follower: ItemFollower) -> None:
        while True:
            pending = await follower.next_changes()
            async with self._applying:
                await self._apply(pending, self._held)
            await asyncio.sleep(_GATHER_S)

    async def _apply(self, pending: Pending, versions: Iterable[V]) -> None:
        for version in versions:
            try:
                await asyncio.to_thread(version.items.apply, pending.changes, pending.keep_only)
            except Exception as error:
                _log.error(
                    "items_not_applied", domain=self.domain, version=version.ref.version, exc_info=error
                )
