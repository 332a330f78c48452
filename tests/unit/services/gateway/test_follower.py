from __future__ import annotations

import asyncio

from services.gateway.catalogue.follower import Catalogue
from services.gateway.ports import CatalogueChanges
from shared.errors import StaleCursor, Unavailable
from tests.fakes import FakeFeatures
from tests.model_servers import until
from tests.unit.services.gateway.world import an_item


async def started(features: FakeFeatures) -> Catalogue:
    catalogue = Catalogue(features, ["default"])
    catalogue.start()
    await asyncio.wait_for(catalogue.wait_complete(), 5)
    return catalogue


def changes(*items: str, deleted: tuple[str, ...] = (), cursor: str = "1") -> CatalogueChanges:
    return CatalogueChanges(tuple(an_item(i) for i in items), deleted, cursor)


async def test_changes_arrive_in_the_mirror() -> None:
    features = FakeFeatures([an_item("a1")])
    catalogue = await started(features)

    async def holds() -> bool:
        return catalogue.of("default").is_available("b1") and len(catalogue.of("default")) == 1

    features.changes.put_nowait(changes("b1", deleted=("a1",)))
    await until(holds)
    await catalogue.stop()


async def test_a_lost_stream_goes_on_after_the_last_cursor() -> None:
    features = FakeFeatures([an_item("a1")])
    catalogue = await started(features)
    features.changes.put_nowait(changes("b1", cursor="7"))
    features.changes.put_nowait(Unavailable("gone"))

    async def back() -> bool:
        return features.watched_from == ["", "7"]

    await until(back)
    assert len(catalogue.of("default")) == 2
    await catalogue.stop()


async def test_a_cursor_too_old_means_a_snapshot_again_and_nothing_stale_stays() -> None:
    features = FakeFeatures([an_item("a1")])
    catalogue = await started(features)
    features.catalogue = {"b1": an_item("b1")}  # a1 was deleted while nobody followed
    features.changes.put_nowait(StaleCursor("too old"))

    async def holds() -> bool:
        return catalogue.of("default").is_available("b1") and not catalogue.of("default").is_available("a1")

    await until(holds)
    assert features.watched_from == ["", ""]
    await catalogue.stop()


async def test_the_mirror_outlives_features() -> None:
    features = FakeFeatures([an_item("a1")])
    catalogue = await started(features)
    features.down = Unavailable("gone")
    features.changes.put_nowait(Unavailable("gone"))

    async def tried() -> bool:
        return len(features.watched_from) >= 2

    await until(tried)
    assert catalogue.of("default").is_available("a1")
    assert catalogue.of("default").complete
    await catalogue.stop()


async def test_it_says_which_domains_it_waits_for() -> None:
    features = FakeFeatures()
    features.down = Unavailable("not yet")
    catalogue = Catalogue(features, ["default", "news"])
    catalogue.start()
    assert list(catalogue.incomplete) == ["default", "news"]
    features.down = None
    await asyncio.wait_for(catalogue.wait_complete(), 5)
    assert catalogue.incomplete == {}
    await catalogue.stop()
