"""What acknowledged means, when the store is killed."""

from __future__ import annotations

import asyncio

import pytest

from services.features.app import build
from services.features.settings import FeatureSettings
from shared.errors import SettingsError, Unavailable
from tests.integration.features.client import Features, event, item, until
from tests.integration.features.conftest import serving, shared_encoder
from tests.ports import free_port
from tests.valkey import RunningValkey, replica_of, running_valkey


async def _write_until_away(features: Features, writer: int, acknowledged: list[str]) -> None:
    for number in range(1_000_000):
        event_id = f"w{writer}-{number}"
        try:
            await features.record(event(f"u{writer}", f"i{number}", event_id=event_id))
        except Unavailable:
            return
        acknowledged.append(event_id)


@pytest.mark.parametrize("cluster", [False, True], ids=["single", "cluster"])
async def test_killing_the_store_loses_nothing_acknowledged_and_service_recovers_by_itself(
    domain: str, cluster: bool
) -> None:
    with running_valkey(cluster=cluster) as valkey:
        await _kill_and_come_back(valkey, domain, cluster)


async def _kill_and_come_back(own_valkey: RunningValkey, domain: str, cluster: bool) -> None:
    async with serving(own_valkey, domain, store_cluster=cluster) as features:
        acknowledged: list[str] = []
        writers = [asyncio.create_task(_write_until_away(features, n, acknowledged)) for n in range(8)]

        async def enough() -> bool:
            return len(acknowledged) >= 200

        await until(enough, says="200 acknowledged events")
        own_valkey.kill()
        await asyncio.gather(*writers)
        with pytest.raises(Unavailable, match=r"store at valkey://127\.0\.0\.1:\d+/0 is away"):
            await features.context("u1")

        own_valkey.start()
        await until(lambda: _answers(features), says="answering again")
        stored = {stored.event_id for stored in await features.exported()}
        assert set(acknowledged) <= stored
        assert await features.record(event("u1", "after")) == [1]


async def _answers(features: Features) -> bool:
    try:
        await features.context("u1")
    except Unavailable:
        return False
    return True


async def test_items_are_followed_again_after_the_store_was_away(
    own_valkey: RunningValkey, domain: str
) -> None:
    async with serving(own_valkey, domain) as one, serving(own_valkey, domain) as other:
        await one.put(item("a", "A quiet comedy", ["Comedy"]))
        own_valkey.kill()
        own_valkey.start()
        await until(lambda: _answers(other), says="answering again")
        await one.put(item("b", "A loud thriller", ["Thriller"]))
        await one.record(event("ann", "b"))

        async def known_to_the_other() -> bool:
            answer = await other.context("ann")
            return [share.category for share in answer.context.categories] == ["Thriller"]

        await until(known_to_the_other, says="the new item's categories")


async def test_local_durability_is_refused_where_the_store_does_not_sync_every_write(domain: str) -> None:
    with running_valkey(appendfsync="everysec") as lax:
        with pytest.raises(
            SettingsError, match=r"durability local needs appendfsync always .*got 'everysec'"
        ):
            async with serving(lax, domain):
                pass
        async with serving(lax, domain, durability="relaxed") as features:
            assert await features.record(event("ann", "a")) == [1]


@pytest.mark.parametrize("durability", ["local", "replicated", "relaxed"])
async def test_a_store_that_does_not_sync_while_it_rewrites_its_file_is_refused(
    own_valkey: RunningValkey, domain: str, durability: str
) -> None:
    with own_valkey.client() as client:
        client.config_set("no-appendfsync-on-rewrite", "yes")
    with pytest.raises(
        SettingsError, match=rf"durability {durability} needs no-appendfsync-on-rewrite no .*got 'yes'"
    ):
        async with serving(own_valkey, domain, durability=durability):
            pass


@pytest.mark.parametrize(
    "cluster", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["single", "cluster"]
)
async def test_replicated_means_on_a_replicas_disk_or_unavailable(domain: str, cluster: bool) -> None:
    with running_valkey(cluster=cluster) as valkey:
        replica = replica_of(valkey)
        try:
            level = {"durability": "replicated", "replica_timeout_s": 1.5, "store_cluster": cluster}
            async with serving(valkey, domain, **level) as features:
                assert await features.record(*(event(f"u{n}", "a") for n in range(20))) == [1] * 20
                replica.kill()
                with pytest.raises(Unavailable, match="0 of 1 replicas had the write on disk"):
                    await features.record(event("ann", "b"))
        finally:
            replica.kill()


async def test_starting_without_a_store_says_what_it_waited_for() -> None:
    url = f"valkey://user:secret@127.0.0.1:{free_port()}/0"
    component = build(FeatureSettings(store_url=url, start_timeout_s=0.5), encoder=shared_encoder())
    with pytest.raises(
        Unavailable,
        match=r"waited start_timeout_s=0\.5 s for the store at valkey://127.* \(set WARMSTART_FEATURES",
    ):
        await component.start()
    await component.stop()


async def test_starting_waits_for_a_store_that_comes_later(domain: str) -> None:
    with running_valkey() as valkey:
        valkey.kill()
        settings = FeatureSettings(store_url=valkey.url, domains=(domain,), start_timeout_s=20)
        component = build(settings, encoder=shared_encoder())
        starting = asyncio.create_task(component.start())
        await asyncio.sleep(0)
        valkey.start()
        await asyncio.wait_for(starting, 20)
        await component.stop()


async def test_other_shards_or_another_secret_than_the_stored_ones_are_refused(
    session_valkey: RunningValkey, domain: str
) -> None:
    secret = "a secret of the tests"
    async with serving(session_valkey, domain, deletion_secret=secret):
        pass
    with pytest.raises(SettingsError, match=r"shards of domain .* were fixed at 8 .* got 16"):
        async with serving(session_valkey, domain, deletion_secret=secret, shards=16):
            pass
    for other in ("another secret of the tests", ""):
        with pytest.raises(
            SettingsError, match=r"deletion_secret .* must be the one it was first opened with"
        ):
            async with serving(session_valkey, domain, deletion_secret=other):
                pass
