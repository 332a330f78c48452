"""A store that is there and cannot write: feedback is refused so that it is sent again, reads go on."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from valkey import Valkey
from valkey.exceptions import ResponseError

from shared.domain import Action, Event
from shared.errors import SettingsError, Unavailable
from tests.integration.features.alone import a_domain
from tests.integration.features.client import event, until
from tests.integration.features.conftest import serving
from tests.valkey import RunningValkey


def fill_memory(client: Valkey) -> Callable[[], Any]:
    client.config_set("maxmemory", "1")
    return lambda: client.config_set("maxmemory", "0")


def make_read_only(client: Valkey) -> Callable[[], Any]:
    """As a failover does to the primary of before; its own new primary is away."""
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    ("break_it", "words"), [(fill_memory, "OOM|maxmemory"), (make_read_only, "read only|READONLY|replica")]
)
async def test_writes_are_unavailable_reads_go_on_and_all_is_well_again_after(
    own_valkey: RunningValkey, domain: str, break_it: Callable[[Valkey], Callable[[], Any]], words: str
) -> None:
    async with serving(own_valkey, domain) as features:
        assert await features.record(event("ann", "a", event_id="e1")) == [1]
        with own_valkey.client() as client:
            mend = break_it(client)
            with pytest.raises(Unavailable, match=words):
                await features.record(event("ann", "b", event_id="e2"))
            assert await features.history("ann") == ["a"]
            mend()

        async def recorded() -> bool:
            try:
                return await features.record(event("ann", "b", event_id="e2")) in ([1], [2])
            except Unavailable:
                return False

        await until(recorded, says="recorded again")
        assert await features.history("ann") == ["a", "b"]


async def test_a_store_that_would_throw_acknowledged_events_away_is_refused(
    own_valkey: RunningValkey, domain: str
) -> None:
    with own_valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(SettingsError, match=r"needs maxmemory-policy noeviction .* got 'allkeys-lru'"):
            async with serving(own_valkey, domain):
                pass
        client.config_set("maxmemory-policy", "volatile-lru")  # which takes only keys that expire
        async with serving(own_valkey, domain) as features:
            assert await features.record(event("ann", "a")) == [1]


async def test_what_is_wrong_with_somebodys_keys_names_nobody_to_others(
    own_valkey: RunningValkey, domain: str
) -> None:
    """Callers share round trips, and so the error of one; logs hide only whom the call itself names."""
    async with a_domain(own_valkey, domain, lambda: 1) as features:
        history = features.keys.shard("ann-the-traveller").history("ann-the-traveller")
        with own_valkey.client() as client:
            client.set(history, "not what belongs there")
        people = ("bea", "ann-the-traveller", "ann")
        calls = [features.record([Event(u, "a", Action.LIKE, 0.0, 1, u)]) for u in people]
        raised = await asyncio.gather(*calls, return_exceptions=True)
        for error in raised:
            assert isinstance(error, ResponseError)
            said = "".join(traceback.format_exception(error))
            assert f"{history.removesuffix('ann-the-traveller')}[hidden] holds string, not zset" in said
            assert "ann-the" not in said
