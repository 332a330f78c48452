"""Cluster mode: on a real cluster node, and by the slots of every key that a script gets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from valkey.cluster import key_slot
from warmstart.common.v1 import user_pb2

from services.features.store.connection import Command, Store
from tests.integration.features.client import NOW_MS, Features, event, item, relation
from tests.integration.features.conftest import Serve, serving
from tests.valkey import RunningValkey


async def _walk(features: Features) -> None:
    """Every RPC once, with people of several shards."""
    assert await features.put(item("a", "Heat", ["Crime"]), item("b", "Alien")) == [1, 1]
    events = [event(f"u{n}", "ab"[n % 2], time_ms=NOW_MS + n) for n in range(40)]
    assert await features.record(*events) == [1] * 40
    await features.ask("UpsertUsers", users=[user_pb2.User(user_id=f"u{n}") for n in range(40)])
    assert all(await features.relate(*(relation(f"u{n}", f"u{n + 1}") for n in range(39))))
    answer = await features.context("u1")
    assert list(answer.context.history.item_ids) == ["b"]
    assert [n.item_id for n in answer.neighbour_likes] == ["a"]
    assert (await features.ask("MergeUsers", from_user_id="u1", into_user_id="u2")).moved_events == 1
    assert (await features.ask("DeleteUser", user_id="u3")).existed
    assert len((await features.ask("ExportUser", user_id="u2")).events) == 2
    assert len(await features.exported()) == 39
    assert len((await features.exported_users())[0]) == 38
    # In which order depends on whether the erased person has left it already, a second later.
    assert {i.item_id for i in (await features.ask("ListTrendingItems")).items} == {"a", "b"}
    assert len((await features.ask("GetItems", item_ids=["a", "b"])).items) == 2
    assert (await features.ask("ListItems")).total_items == 2
    async with aclosing(features.watch()) as stream:
        await anext(stream)
        assert (await anext(stream)).snapshot_complete
        assert (await features.ask("DeleteItems", item_ids=["a"])).results[0].status == 5
        assert (await anext(stream)).changes[0].deleted_item_id == "a"


async def test_every_call_works_on_a_cluster(cluster_valkey: RunningValkey, domain: str) -> None:
    async with serving(cluster_valkey, domain, store_cluster=True) as features:
        await _walk(features)


async def test_all_keys_of_a_command_share_a_slot(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Command] = []
    inner = Store._replies

    async def noted(self: Store, commands: Sequence[Command], write: bool) -> list[Any]:
        sent.extend(commands)
        return await inner(self, commands, write)

    monkeypatch.setattr(Store, "_replies", noted)
    async with serve() as features:
        await _walk(features)
    scripts = [command for command in sent if command[0] in ("EVAL", "EVALSHA")]
    assert len({command[1] for command in scripts if command[0] == "EVALSHA"}) >= 10
    for command in scripts:
        keys = [str(key) for key in command[3 : 3 + int(command[2])]]
        assert len({key_slot(key.encode()) for key in keys}) == 1, keys
        assert all(key.startswith(f"{{{features.domain}:") for key in keys)
    for command in sent:
        if command[0] not in ("EVAL", "EVALSHA"):
            assert str(command[1]).startswith(f"{{{features.domain}:"), command
            assert command[0] not in ("MGET", "DEL", "EXISTS", "RENAME", "SUNION", "KEYS", "SCAN")
