"""Which versions are held: swaps, refusals, retries, and items that are live from the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from shared.artifacts import Artifact, Registry, Signer, TrustedKeys
from shared.domain import HeldModel, ModelRef
from shared.errors import ArtifactError, ModelNotHeld, NoModel
from shared.inference.follower import FeedBatch, ItemFeed
from shared.inference.holder import HolderTimes, ModelHolder
from shared.items import ItemRows, LiveItems
from tests.artifacts import DIMS, content_of, item_ids, publish_plain
from tests.model_servers import until
from tests.unit.shared.inference.test_follower import ScriptedFeed
from tests.unit.shared.test_signatures import tamper, write_keys

SOON = HolderTimes(interval_s=0.01, catalogue_wait_s=5.0)


class ZeroTower:
    def item_rows(self, id_rows: Any, id_present: Any, content: Any) -> ItemRows:
        widths = (DIMS.input, DIMS.support, DIMS.output)
        return ItemRows(*(np.zeros((len(content), w), np.float32) for w in widths))


@dataclass(frozen=True)
class PlainVersion:
    ref: ModelRef
    items: LiveItems

    def describe(self) -> HeldModel:
        return HeldModel(self.ref, (), len(self.items.view))


class Loader:
    """Counts loads; refuses the versions in `broken`."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, artifact: Artifact) -> PlainVersion:
        self.loaded.append(artifact.ref.version)
        if artifact.ref.version in self.broken:
            raise ArtifactError(f"{artifact.ref.version} does not work")
        return PlainVersion(artifact.ref, LiveItems(artifact, ZeroTower()))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@asynccontextmanager
async def holding(
    registry: Registry, loader: Loader, feed: Any = None, times: HolderTimes = SOON
) -> AsyncIterator[ModelHolder[PlainVersion]]:
    holder = ModelHolder("default", registry, loader, cast(ItemFeed | None, feed), times)
    holder.start()
    try:
        await asyncio.wait_for(holder.settled(), 60)
        yield holder
    finally:
        await holder.stop()


def held(holder: ModelHolder[PlainVersion]) -> list[str]:
    return [one.ref.version for one in holder.held()]


async def become(holder: ModelHolder[PlainVersion], *versions: str) -> None:
    async def so() -> bool:
        return held(holder) == list(versions)

    await until(so)


async def test_without_a_champion_it_settles_with_nothing_held(registry: Registry, loader: Loader) -> None:
    async with holding(registry, loader) as holder:
        assert not holder.ready.is_set()
        with pytest.raises(NoModel):
            holder.get()


async def test_the_last_two_champions_are_held_and_a_held_one_is_not_loaded_again(
    registry: Registry, loader: Loader
) -> None:
    a, b, c = (publish_plain(registry).version for _ in range(3))
    registry.promote("default", a)
    async with holding(registry, loader) as holder:
        assert held(holder) == [a]
        for version, wanted in ((b, [b, a]), (c, [c, b]), (b, [b, c])):
            registry.promote("default", version)
            await become(holder, *wanted)
        assert loader.loaded == [a, b, c]
        assert holder.get().ref.version == b
        assert holder.get(c).ref.version == c
        with pytest.raises(ModelNotHeld, match=f"held: {b}, {c}"):
            holder.get(a)


class Watched(Registry):
    """Notes what it refuses."""

    refused: tuple[str, ...] = ()

    def open(self, ref: ModelRef) -> Artifact:
        try:
            return super().open(ref)
        except ArtifactError:
            self.refused += (ref.version,)
            raise


async def test_a_champion_that_no_trusted_key_signed_is_refused_and_the_signed_one_stays(
    tmp_path: Path, loader: Loader
) -> None:
    """Somebody who can write the registry changes a version, makes its manifest anew and promotes it."""
    private, public = write_keys(tmp_path, "ours")
    publisher = Registry(tmp_path / "registry", signer=Signer.of_file("KEY", str(private)))
    server = Watched(publisher.root, trusted=TrustedKeys.of_file("KEYS", str(public)))
    signed, changed, last = (publish_plain(publisher).version for _ in range(3))
    tamper(publisher, ModelRef("default", changed))
    anybody = Registry(publisher.root)
    anybody.promote("default", signed)
    async with holding(server, loader) as holder:
        for bad in (changed, publish_plain(anybody).version):
            anybody.promote("default", bad)

            async def refused(bad: str = bad) -> bool:
                return bad in server.refused

            await until(refused)
            assert held(holder) == [signed]
        publisher.promote("default", last)
        await become(holder, last, signed)
    assert loader.loaded == [signed, last]


async def test_a_refused_version_is_tried_again_while_it_is_the_champion(
    registry: Registry, loader: Loader
) -> None:
    a, b, c = (publish_plain(registry).version for _ in range(3))
    registry.promote("default", a)
    loader.broken = {b}
    async with holding(registry, loader) as holder:
        registry.promote("default", b)

        async def tried() -> bool:
            return b in loader.loaded

        await until(tried)
        assert held(holder) == [a]
        loader.broken = set()  # as if its files had arrived
        await become(holder, b, a)

        loader.broken = {c}
        registry.promote("default", c)
        await until(lambda: _contains(loader.loaded, c))
        registry.promote("default", a)  # another champion ends the retries at once
        await become(holder, a, b)


async def _contains(loaded: list[str], version: str) -> bool:
    return version in loaded


async def test_a_first_champion_that_does_not_work_settles_too(registry: Registry, loader: Loader) -> None:
    version = publish_plain(registry).version
    registry.promote("default", version)
    loader.broken = {version}
    async with holding(registry, loader) as holder:
        assert held(holder) == []


async def test_while_the_first_champion_does_not_work_the_latest_earlier_one_that_does_serves(
    registry: Registry, loader: Loader
) -> None:
    a, b, c, d = (publish_plain(registry).version for _ in range(4))
    for version in (a, b, c, d):
        registry.promote("default", version)
    loader.broken = {c, d}
    async with holding(registry, loader) as holder:
        assert loader.loaded == [d, c, b]
        assert held(holder) == [b]
        loader.broken = set()  # as if its files had arrived
        await become(holder, d, b)


def catalogue(*ids: str) -> FeedBatch:
    return FeedBatch([(i, content_of(i).astype(np.float16)) for i in ids], "1", snapshot_complete=True)


async def test_a_model_is_held_only_with_the_catalogue_as_it_is(registry: Registry, loader: Loader) -> None:
    a, b = (publish_plain(registry).version for _ in range(2))
    registry.promote("default", a)
    feed = ScriptedFeed([catalogue("item-0001", "item-0002", "new"), None])
    async with holding(registry, loader, feed) as holder:
        assert sorted(holder.get().items.view.index) == ["item-0001", "item-0002", "new"]
        registry.promote("default", b)
        await become(holder, b, a)
        assert sorted(holder.get().items.view.index) == ["item-0001", "item-0002", "new"]


async def test_changes_reach_every_version_held(registry: Registry, loader: Loader) -> None:
    a, b = (publish_plain(registry).version for _ in range(2))
    registry.promote("default", a)
    gate = asyncio.Event()

    class GatedFeed:
        async def watch(self, domain: str, cursor: str) -> AsyncIterator[FeedBatch]:
            yield catalogue(*item_ids(5))
            await gate.wait()
            yield FeedBatch([("item-0000", None), ("new", content_of("new").astype(np.float16))], "2")
            await asyncio.Event().wait()

    async with holding(registry, loader, GatedFeed()) as holder:
        registry.promote("default", b)
        await become(holder, b, a)
        gate.set()
        wanted = [*item_ids(5)[1:], "new"]

        async def everywhere() -> bool:
            return all(sorted(one.items.view.index) == wanted for one in holder.held())

        await until(everywhere)


async def test_without_the_item_stream_it_serves_the_artifacts_items_after_a_while(
    registry: Registry, loader: Loader
) -> None:
    registry.promote("default", publish_plain(registry).version)
    feed = ScriptedFeed([None])
    times = HolderTimes(interval_s=0.01, catalogue_wait_s=0.05)
    async with holding(registry, loader, feed, times) as holder:
        assert list(holder.get().items.view.index) == item_ids(5)
