"""Profiles, relations, folding, erasing and exporting people."""

from __future__ import annotations

import asyncio

import pytest
import structlog.testing
from warmstart.common.v1 import user_pb2

from services.features.store.lifecycle import Lifecycle
from services.features.store.relations import Relations
from shared.errors import InvalidInput, NotFound
from tests.integration.features.client import (
    NOW_MS,
    RECORDED,
    REJECTED,
    Features,
    event,
    relation,
    until,
)
from tests.integration.features.conftest import Serve, serving
from tests.traces import everything, traces
from tests.valkey import RunningValkey

IMPRESSION, RATING = 1, 7


def _traces(valkey: RunningValkey, domain: str, user_id: str) -> list[bytes]:
    return traces(valkey, user_id, match=f"{{{domain}:*")


async def _a_full_life(features: Features, user_id: str) -> None:
    await features.ask("UpsertUsers", users=[user_pb2.User(user_id=user_id, attributes={"age": "34"})])
    await features.record(
        *(event(user_id, f"i{n}", RATING, value=4.0, time_ms=NOW_MS + n) for n in range(30)),
        event(user_id, "i1", IMPRESSION),
        *(event(f"other{n}", "i1", time_ms=NOW_MS + n) for n in range(30)),
    )
    await features.relate(relation(user_id, "bob"), relation("carl", user_id), relation(user_id, "dora"))
    await features.relate(relation(user_id, "dora", removed=True))


async def test_attributes_replace_those_of_before(features: Features) -> None:
    for attributes in ({"age": "34", "job": "nurse"}, {"age": "35"}):
        users = [user_pb2.User(user_id="ann", attributes=attributes), user_pb2.User(user_id="")]
        results = (await features.ask("UpsertUsers", users=users)).results
        assert [r.stored for r in results] == [True, False]
        assert "users[1].user_id must be 1..256 bytes" in results[1].reason
    assert dict((await features.context("ann")).context.attributes) == {"age": "35"}


async def test_relations_are_stored_replaced_and_removed(features: Features) -> None:
    assert await features.relate(relation("ann", "bob", weight=0.5), relation("ann", "ann")) == [True, False]
    await features.relate(relation("ann", "bob", weight=0.25), relation("ann", "carl", kind="trusts"))
    (bob, carl) = sorted(
        (await features.ask("ExportUser", user_id="ann")).relations, key=lambda r: r.other_user_id
    )
    assert (bob.weight, carl.weight, carl.kind) == (0.25, 1.0, "trusts")
    await features.relate(relation("ann", "bob", removed=True), relation("ann", "nobody", removed=True))
    held = (await features.ask("ExportUser", user_id="ann")).relations
    assert {r.other_user_id: r.removed for r in held} == {"bob": True, "carl": False}
    _, exported = await features.exported_users()
    assert [r.other_user_id for r in exported] == ["carl"]


async def test_more_relations_than_are_kept_are_refused(serve: Serve) -> None:
    async with serve(max_relations=2) as features:
        stored = await features.relate(*(relation("ann", f"u{n}") for n in range(3)))
        assert stored == [True, True, False]
        assert await features.relate(relation("ann", "u1", weight=0.5)) == [True]


async def test_relations_that_a_merge_has_no_room_for_are_left_out_and_counted(
    serve: Serve,
) -> None:
    async with serve(max_relations=2) as features:
        await features.relate(*(relation(one, f"{one}-{n}") for one in ("ann", "visitor") for n in range(2)))
        with structlog.testing.capture_logs() as logs:
            await features.ask("MergeUsers", from_user_id="visitor", into_user_id="ann")
        held = (await features.ask("ExportUser", user_id="ann")).relations
        assert {r.other_user_id for r in held} == {"ann-0", "ann-1"}
    assert [log["count"] for log in logs if log["event"] == "relations_left_out"] == [2]


async def test_erasing_a_person_leaves_no_trace_in_any_key_or_value(
    session_valkey: RunningValkey, features: Features
) -> None:
    await _a_full_life(features, "ann-the-traveller")
    assert len(_traces(session_valkey, features.domain, "ann-the-traveller")) > 40
    assert (await features.ask("DeleteUser", user_id="ann-the-traveller")).existed
    assert _traces(session_valkey, features.domain, "ann-the-traveller") == []
    assert not (await features.ask("DeleteUser", user_id="ann-the-traveller")).existed
    assert {e.user_id for e in await features.exported()} == {f"other{n}" for n in range(30)}


async def test_an_erased_persons_past_stays_out_and_a_later_life_begins_anew(features: Features) -> None:
    await _a_full_life(features, "ann")
    await features.ask("DeleteUser", user_id="ann")
    results = (await features.ask("RecordEvents", events=[event("ann", "i1")])).results
    assert results[0].status == REJECTED
    assert "events[0].time_ms must be after the person's erasure" in results[0].reason
    described = await features.ask("UpsertUsers", users=[user_pb2.User(user_id="ann")])
    assert [r.stored for r in described.results] == [False]
    assert await features.relate(relation("ann", "bob"), relation("carl", "ann")) == [False, False]

    assert await features.record(event("ann", "new", time_ms=0)) == [RECORDED]
    assert await features.history("ann") == ["new"]
    described = await features.ask("UpsertUsers", users=[user_pb2.User(user_id="ann")])
    assert [r.stored for r in described.results] == [True]
    assert await features.relate(relation("ann", "bob"), relation("carl", "ann")) == [True, True]
    assert [e.item_id for e in await features.exported() if e.user_id == "ann"] == ["new"]


async def test_folding_moves_events_seen_items_and_relations_and_repeating_changes_nothing(
    session_valkey: RunningValkey, features: Features
) -> None:
    await features.record(
        event("visitor7", "a", event_id="v1", time_ms=NOW_MS + 1),
        event("visitor7", "b", event_id="v2", time_ms=NOW_MS + 3),
        event("visitor7", "c", event_id="v3", action=IMPRESSION),
        event("ann", "x", event_id="a1", time_ms=NOW_MS + 2),
        event("ann", "b", event_id="v2", time_ms=NOW_MS + 3),  # the same event, already known
    )
    await features.relate(
        relation("visitor7", "bob", weight=0.5), relation("visitor7", "ann"), relation("carl", "visitor7")
    )
    fold = {"from_user_id": "visitor7", "into_user_id": "ann"}
    assert (await features.ask("MergeUsers", **fold)).moved_events == 2
    assert await features.history("ann") == ["a", "x", "b"]
    held = await features.ask("ExportUser", user_id="ann")
    assert [(r.other_user_id, r.weight) for r in held.relations] == [("bob", 0.5)]
    carl = await features.ask("ExportUser", user_id="carl")
    assert [r.other_user_id for r in carl.relations] == ["ann"]
    assert _traces(session_valkey, features.domain, "visitor7") == []
    assert (await features.ask("MergeUsers", **fold)).moved_events == 0
    assert await features.history("ann") == ["a", "x", "b"]


async def test_folding_someone_into_themselves_is_refused(features: Features) -> None:
    with pytest.raises(InvalidInput, match="into_user_id must differ from from_user_id, got 'ann'"):
        await features.ask("MergeUsers", from_user_id="ann", into_user_id="ann")


async def test_events_that_arrive_while_folding_are_not_lost(features: Features) -> None:
    async def act(number: int) -> None:
        assert await features.record(event("visitor", f"i{number}", event_id=f"e{number}")) == [RECORDED]

    async def fold() -> None:
        await features.ask("MergeUsers", from_user_id="visitor", into_user_id="ann")

    await asyncio.gather(*(act(n) if n % 8 else fold() for n in range(160)))
    await fold()
    acted = {f"i{n}" for n in range(160) if n % 8}
    assert set(await features.history("ann")) == acted
    assert len(await features.exported()) == len(acted)


async def test_a_crash_while_erasing_is_finished_by_the_next_server(
    session_valkey: RunningValkey, serve: Serve, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(self: Lifecycle, user_id: str) -> None:
        raise RuntimeError("the server died here")

    async with serve() as features:
        await _a_full_life(features, "ann-the-traveller")
        with monkeypatch.context() as patch:
            patch.setattr(Lifecycle, "_clean", crash)
            with pytest.raises(Exception, match="internal error"):
                await features.ask("DeleteUser", user_id="ann-the-traveller")
        assert _traces(session_valkey, domain, "ann-the-traveller")
    async with serving(session_valkey, domain, repair_every_s=0.05):

        async def clean() -> bool:
            return not _traces(session_valkey, domain, "ann-the-traveller")

        await until(clean, says="no trace")


async def test_a_crash_between_the_sides_of_a_relation_is_finished_by_the_next_server(
    session_valkey: RunningValkey, serve: Serve, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(self: Relations, links: object) -> None:
        raise RuntimeError("the server died here")

    async with serve() as features:
        with monkeypatch.context() as patch:
            patch.setattr(Relations, "_back", crash)
            with pytest.raises(Exception, match="internal error"):
                await features.relate(relation("ann-the-traveller", "bob"))
    async with serving(session_valkey, domain, repair_every_s=0.05) as features:

        async def repaired() -> bool:
            with session_valkey.client() as client:
                return b"follows\x1fann-the-traveller" in set(everything(client, f"{{{domain}:*"))

        await until(repaired, says="the other side")
        await features.ask("DeleteUser", user_id="bob")
        with pytest.raises(NotFound):  # the relation was all that was known of her
            await features.ask("ExportUser", user_id="ann-the-traveller")


async def test_people_are_exported_with_attributes_and_relations(features: Features) -> None:
    users = [user_pb2.User(user_id=f"u{n}", attributes={"n": str(n)}) for n in range(50)]
    await features.ask("UpsertUsers", users=users)
    await features.relate(*(relation(f"u{n}", f"v{n}") for n in range(10)))
    got, relations = await features.exported_users()
    assert sorted(u.user_id for u in got) == sorted(u.user_id for u in users)
    assert all(dict(u.attributes) == {"n": u.user_id[1:]} for u in got)
    assert sorted(r.user_id for r in relations) == sorted(f"u{n}" for n in range(10))
