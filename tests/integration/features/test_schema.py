"""Old and new servers on one store: what a rollout and a rollback find, by the rule in `store/schema.py`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.features.app import _address
from services.features.settings import FeatureSettings
from services.features.store.connection import Store
from services.features.store.schema import THIS, Release, Schema, open_domain
from shared.errors import SettingsError
from tests.integration.features.client import event, item, until
from tests.integration.features.conftest import serving
from tests.valkey import RunningValkey

OLD = Release(version=1, oldest=1, reads=1)
# A key that older servers pass over.
COMPATIBLE = Release(version=2, oldest=1, reads=1)
# Of a change that older servers cannot live with: reads both forms, writes the old one; then writes the new
# one; then no longer reads the old one.
READS_BOTH = Release(version=2, oldest=1, reads=1)
WRITES_NEW = Release(version=3, oldest=2, reads=1)
READS_NEW = Release(version=4, oldest=3, reads=3)


@pytest.fixture
async def store(session_valkey: RunningValkey) -> AsyncIterator[Store]:
    store = Store(_address(FeatureSettings(store_url=session_valkey.url)))
    yield store
    await store.close()


async def opened(store: Store, domain: str, release: Release) -> Schema:
    return await open_domain(store, domain, num_shards=8, secret="", release=release)


async def noted(store: Store, domain: str) -> tuple[int, int]:
    version, oldest = await store.one("HMGET", f"{{{domain}:meta}}:schema", "version", "oldest")
    return int(version), int(oldest)


async def test_a_compatible_release_works_beside_the_one_before_and_leads_back_to_it(
    store: Store, domain: str
) -> None:
    first = await opened(store, domain, OLD)
    assert await noted(store, domain) == (1, 1)
    assert await opened(store, domain, COMPATIBLE) == first
    assert await noted(store, domain) == (2, 1)
    # Another replica of before, or the whole rollout rolled back: as before, and the numbers stay.
    assert await opened(store, domain, OLD) == first
    assert await noted(store, domain) == (2, 1)


async def test_an_incompatible_change_takes_two_releases_and_refuses_those_before_by_what_they_need(
    store: Store, domain: str
) -> None:
    first = await opened(store, domain, OLD)
    await opened(store, domain, READS_BOTH)
    assert await opened(store, domain, OLD) == first  # back from the first step
    await opened(store, domain, WRITES_NEW)
    assert await noted(store, domain) == (3, 2)
    assert await opened(store, domain, READS_BOTH) == first  # back from the second step
    with pytest.raises(
        SettingsError,
        match=r"must be at most 1 \(or usable by it\), got version 3, usable from 2 on: start a newer server",
    ):
        await opened(store, domain, OLD)
    assert await opened(store, domain, READS_NEW) == first


async def test_a_release_that_no_longer_reads_an_old_form_says_which_step_was_left_out(
    store: Store, domain: str
) -> None:
    await opened(store, domain, OLD)
    with pytest.raises(
        SettingsError, match="must be at least 3, got version 1: start the release before this one first"
    ):
        await opened(store, domain, READS_NEW)
    assert await noted(store, domain) == (1, 1)  # a refused server leaves no mark


async def test_a_server_refused_for_its_settings_raises_nothing(store: Store, domain: str) -> None:
    await opened(store, domain, OLD)
    with pytest.raises(SettingsError, match="shards"):
        await open_domain(store, domain, num_shards=16, secret="", release=WRITES_NEW)
    assert await noted(store, domain) == (1, 1)


async def test_this_server_on_a_store_that_a_later_one_has_written(
    session_valkey: RunningValkey, store: Store, domain: str
) -> None:
    """As far as the later one allows: it serves, and passes over keys and fields that it does not know."""
    async with serving(session_valkey, domain) as features:
        assert await features.record(event("ann", "a", event_id="e1")) == [1]
    later = Release(THIS.version + 1, THIS.version, THIS.version)
    await opened(store, domain, later)
    await store.run(
        [
            ("HSET", f"{{{domain}:meta}}:schema", "of a later release", "1"),
            ("SET", f"{{{domain}:s000}}:of a later release", "1"),
        ],
        write=True,
    )
    async with serving(session_valkey, domain) as features:
        assert await features.record(event("ann", "a", event_id="e1")) == [2]
        assert await features.history("ann") == ["a"]
    await opened(store, domain, Release(THIS.version + 2, THIS.version + 1, THIS.version + 1))
    with pytest.raises(SettingsError, match="start a newer server"):
        async with serving(session_valkey, domain):
            pass


async def test_the_beginning_stays_and_a_schema_of_before_it_was_noted_begins_with_the_next_start(
    store: Store, domain: str
) -> None:
    first = await opened(store, domain, OLD)
    assert (await opened(store, domain, OLD)).began_ms == first.began_ms
    assert abs(first.began_ms - time.time() * 1000) < 60_000
    await store.one("HDEL", f"{{{domain}:meta}}:schema", "began_ms", write=True)
    again = await opened(store, domain, OLD)
    assert again.epoch == first.epoch
    assert again.began_ms > first.began_ms


async def test_a_store_that_lost_everything_under_its_servers_gets_the_same_schema_again(
    own_valkey: RunningValkey, domain: str
) -> None:
    """Else servers that start later would know erased people under another secret than those that run."""
    async with serving(own_valkey, domain) as features:
        await features.put(item("a", "A quiet comedy"))

        def schema() -> dict[Any, Any]:
            with own_valkey.client() as client:
                return dict(client.hgetall(f"{{{domain}:meta}}:schema"))

        before = schema()
        with own_valkey.client() as client:
            client.flushall()

        async def written_again() -> bool:
            return bool(schema())

        await until(written_again, says="the schema is there again")
        after = schema()
        assert after[b"secret"] == before[b"secret"]
        assert after[b"epoch"] != before[b"epoch"]
        assert int(after[b"began_ms"]) > int(before[b"began_ms"])
        async with serving(own_valkey, domain) as other:
            assert await other.record(event("ann", "b")) == [1]
