"""All that is held of a person: complete by the same table that erases them, and in pages that fit."""

from __future__ import annotations

from typing import Any

import pytest
from warmstart.common.v1 import event_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.gateway.v1 import user_service_pb2 as gateway_pb

from services.features import page_tokens
from services.features.store.holdings import HOLDINGS, own_keys
from services.features.store.keys import DomainKeys
from shared.errors import InvalidInput, NotFound
from tests.integration.features.client import NOW_MS, Features, event, relation
from tests.integration.features.conftest import Serve
from tests.traces import everything
from tests.valkey import RunningValkey

IMPRESSION, RATING = 1, 7
_ANN = "ann-the-traveller"


async def a_full_life(features: Features, user_id: str) -> None:
    """Everything that the store can hold of somebody."""
    await features.ask("UpsertUsers", users=[user_pb2.User(user_id=user_id, attributes={"age": "34"})])
    shown = event_pb2.Exposure(list_id="list-7", position=3, propensity=0.5, source="model")
    await features.record(
        *(event(user_id, f"i{n}", RATING, value=4.0, time_ms=NOW_MS + n) for n in range(30)),
        event(user_id, "i1", IMPRESSION, exposure=shown),
        *(event(f"other{n}", "i1", time_ms=NOW_MS + n) for n in range(30)),
    )
    await features.relate(relation(user_id, "bob", weight=0.5), relation("carl", user_id, weight=0.25))
    await features.relate(relation(user_id, "dora"), relation(user_id, "dora", removed=True))
    await features.relate(relation("visitor", "bob"))  # which this person has already
    await features.ask("MergeUsers", from_user_id="visitor", into_user_id=user_id)


async def pages(features: Features, user_id: str, **fields: Any) -> list[pb.ExportUserResponse]:
    found = [await features.ask("ExportUser", user_id=user_id, **fields)]
    while found[-1].next_page_token:
        token = found[-1].next_page_token
        found.append(await features.ask("ExportUser", user_id=user_id, page_token=token, **fields))
    return found


async def test_all_that_is_held_of_a_person_is_exported(features: Features) -> None:
    await a_full_life(features, _ANN)
    held = await features.ask("ExportUser", user_id=_ANN)
    assert dict(held.user.attributes) == {"age": "34"}
    assert (held.total_events, held.recognised_events, len(held.events)) == (30, 31, 31)
    assert [e.time_ms for e in held.events] == sorted(e.time_ms for e in held.events)
    (shown,) = (e for e in held.events if e.action == IMPRESSION)
    assert (shown.exposure.list_id, shown.exposure.propensity) == ("list-7", 0.5)
    assert [(r.other_user_id, r.weight, r.removed) for r in held.relations] == [
        ("bob", 0.5, False),
        ("dora", 0.0, True),
    ]
    assert [(r.user_id, r.other_user_id, r.weight) for r in held.relations_from_others] == [
        ("carl", _ANN, 0.25)
    ]
    assert (held.seen_item_ids[0], held.seen_time_ms[0]) == ("i29", NOW_MS + 29)
    assert not held.next_page_token
    with pytest.raises(NotFound, match="user_id must be known, got 'zoe'"):
        await features.ask("ExportUser", user_id="zoe")


async def test_what_is_erased_and_what_is_exported_are_one_table(
    session_valkey: RunningValkey, features: Features
) -> None:
    """Every key that a person leaves is a row; every row is told by fields that a full life fills; every
    field belongs to a row."""
    await a_full_life(features, _ANN)
    with session_valkey.client() as client:
        match = f"{{{features.domain}:*"
        left = {key.decode() for key in client.scan_iter(match=match) if key.decode().endswith(f":{_ANN}")}
        shared = {
            key.decode().rpartition("}:")[2]
            for key in client.scan_iter(match=match)
            if not key.decode().endswith(f":{_ANN}") and _mentions(client, key)
        }
    keys = DomainKeys(features.domain, 8)
    assert left == set(own_keys(keys.shard(_ANN), _ANN))
    # Beside the person's own keys: logs, the set of people, and the other sides of their relations.
    assert shared == {"log", "imp", "users", "b:bob", "b:dora", "f:carl"}
    held = await features.ask("ExportUser", user_id=_ANN)
    fields = [name for holding in HOLDINGS for name in holding.exported_as]
    assert all(getattr(held, name) for name in fields)
    for message in (pb.ExportUserResponse, gateway_pb.ExportUserResponse):
        assert set(message.DESCRIPTOR.fields_by_name) == {*fields, "next_page_token"}


def _mentions(client: Any, key: bytes) -> bool:
    return any(_ANN.encode() in value for value in everything(client, key.decode()))


async def test_pages_together_hold_what_one_page_does(features: Features) -> None:
    await a_full_life(features, _ANN)
    whole = await features.ask("ExportUser", user_id=_ANN)
    parts = await pages(features, _ANN, page_size=7)
    # 2 relations, 1 of another, 30 seen items, 31 events
    assert len(parts) == 10
    joined = pb.ExportUserResponse()
    for part in parts:
        assert part.user == whole.user
        part.next_page_token = ""
        joined.MergeFrom(part)
    for name in ("relations", "relations_from_others", "seen_item_ids", "seen_time_ms", "events"):
        assert list(getattr(joined, name)) == list(getattr(whole, name)), name


async def test_what_is_written_between_two_pages_moves_no_row(features: Features) -> None:
    await a_full_life(features, _ANN)
    first = await features.ask("ExportUser", user_id=_ANN, page_size=40)
    await features.record(event(_ANN, "older", time_ms=NOW_MS - 5), event(_ANN, "newer", time_ms=NOW_MS + 99))
    second = await features.ask("ExportUser", user_id=_ANN, page_size=40, page_token=first.next_page_token)
    ids = [e.event_id for e in (*first.events, *second.events)]
    assert len(ids) == len(set(ids)) == 32  # the newer one too; the older came behind the page's place


async def test_histories_larger_than_a_message_come_in_pages_that_fit(features: Features) -> None:
    """The longest ids there are: 4,000 rows would be more than the 4 MiB of a message."""
    long = "x" * 240
    exposure = event_pb2.Exposure(list_id=long, source=long, model_version=long, experiment_key="k" * 120)
    for at in range(0, 4000, 500):
        shown = (
            event(long, f"{long}{n}", IMPRESSION, event_id=f"{'e' * 120}{n}", exposure=exposure)
            for n in range(at, at + 500)
        )
        await features.record(*shown)
    parts = await pages(features, long)
    assert sum(part.ByteSize() for part in parts) > 4 << 20
    assert all(part.ByteSize() < 4 << 20 for part in parts)
    assert len({e.event_id for part in parts for e in part.events}) == 4000


async def test_a_token_is_of_one_persons_export(features: Features) -> None:
    for user_id in (_ANN, "bea"):
        await features.record(*(event(user_id, f"i{n}") for n in range(3)))
    token = (await features.ask("ExportUser", user_id=_ANN, page_size=1)).next_page_token
    for user_id, bad in (("bea", token), (_ANN, token[:-2] + "AA"), (_ANN, "no token")):
        with pytest.raises(InvalidInput, match="page_token must be the next_page_token of this person's"):
            await features.ask("ExportUser", user_id=user_id, page_token=bad)
    made_up = ("7", "{}", '["x",{},1]', '[0,7,""]', '[3,"x",""]', '[2,1.5,""]', '[4,0,""]', "[[0],0,0]")
    for after in (*made_up, "[" * 100_000, "[2," + "9" * 10_000 + ',""]'):
        with pytest.raises(InvalidInput, match="page_token must be the next_page_token of this person's"):
            bad = page_tokens._issue(page_tokens._export(features.domain, _ANN), after)
            await features.ask("ExportUser", user_id=_ANN, page_token=bad)
    with pytest.raises(InvalidInput, match=r"page_size must be 1\.\.2000, or 0 for 2000, got 2001"):
        await features.ask("ExportUser", user_id=_ANN, page_size=2001)


async def test_events_of_one_moment_come_as_they_arrived_over_pages_and_when_the_log_has_lost_them(
    serve: Serve,
) -> None:
    """Brought along, they are then the history that was stored."""
    async with serve(log_events=8, shards=1) as features:
        items = [f"i{n}" for n in (3, 1, 2, 0)]
        await features.record(*(event(_ANN, i, event_id=f"e{n}") for n, i in enumerate(reversed(items))))
        # A log is trimmed by whole blocks of a hundred entries.
        await features.record(*(event("bea", f"b{n}", event_id=f"b{n}") for n in range(250)))
        await features.record(*(event(_ANN, i, event_id=f"later{n}") for n, i in enumerate(items)))
        parts = await pages(features, _ANN, page_size=3)
        exported = [e.item_id for part in parts for e in part.events]
        assert exported == [*reversed(items), *items]
        assert exported == await features.history(_ANN)
        logged = [e.item_id for e in await features.exported() if e.user_id == _ANN]
        assert logged == items, "the first ones are in the history alone"
