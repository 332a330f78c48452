"""The event log as training reads it, and its cap."""

from __future__ import annotations

import random

import pytest

from services.features.store.address import StoreAddress
from services.features.store.connection import Store
from services.features.store.export import Exporter
from services.features.store.keys import DomainKeys
from services.features.store.schema import open_domain
from shared.errors import InvalidInput
from tests.integration.features.client import NOW_MS, RECORDED, Features, event
from tests.integration.features.conftest import Serve
from tests.valkey import RunningValkey

IMPRESSION = 1


async def test_each_persons_events_come_together_in_order_of_time_and_ties_as_they_arrived(
    features: Features,
) -> None:
    rng = random.Random(7)
    sent = [
        event(f"u{rng.randrange(20)}", f"i{n}", event_id=f"e{n}", time_ms=NOW_MS + rng.randrange(50))
        for n in range(3000)
    ]
    await features.record(*sent)
    exported = await features.exported()
    order = list(dict.fromkeys(e.user_id for e in exported))
    for user in order:
        theirs = [e for e in exported if e.user_id == user]
        wanted = sorted((e for e in sent if e.user_id == user), key=lambda e: e.time_ms)
        assert [e.event_id for e in theirs] == [e.event_id for e in wanted]
    assert [e.user_id for e in exported] == sorted((e.user_id for e in exported), key=order.index)


async def test_a_span_of_time_is_half_open_and_impressions_only_come_when_asked(features: Features) -> None:
    await features.record(*(event("ann", f"i{n}", time_ms=NOW_MS + n) for n in range(5)))
    await features.record(event("ann", "shown", IMPRESSION, time_ms=NOW_MS + 2))
    span = {"from_ms": NOW_MS + 1, "until_ms": NOW_MS + 3}
    assert [e.item_id for e in await features.exported(**span)] == ["i1", "i2"]
    shown = await features.exported(include_impressions=True, **span)
    assert [e.item_id for e in shown] == ["i1", "i2", "shown"]
    with pytest.raises(InvalidInput, match="until_ms must be 0 or after from_ms, 5, got 5"):
        await features.exported(from_ms=5, until_ms=5)


async def test_a_log_at_its_cap_loses_its_oldest_entries_and_says_so(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(shards=1, log_events=300) as features:
        for at in range(0, 1000, 100):
            events = [event(f"u{n}", f"i{n}", time_ms=NOW_MS + n) for n in range(at, at + 100)]
            assert await features.record(*events) == [RECORDED] * 100
        kept = [e.item_id for e in await features.exported()]
        assert 300 <= len(kept) <= 500  # whole nodes of the stream are trimmed
        assert kept == [f"i{n}" for n in range(1000 - len(kept), 1000)]
        assert await features.history("u0") == ["i0"]  # the history is kept apart
        held = await features.ask("ExportUser", user_id="u0")
        assert [e.item_id for e in held.events] == ["i0"]
        said = capsys.readouterr().out
        assert "log_nearly_full" in said
        assert "log_trimmed_before_export" in said


async def test_impressions_push_each_other_out_and_no_other_event(serve: Serve) -> None:
    async with serve(shards=1, log_events=300, impression_events=300) as features:
        await features.record(*(event("ann", f"liked{n}", time_ms=NOW_MS + n) for n in range(20)))
        for at in range(0, 1000, 100):
            shown = [event("bob", f"i{n}", IMPRESSION, time_ms=NOW_MS + n) for n in range(at, at + 100)]
            await features.record(*shown)
        assert [e.item_id for e in await features.exported()] == [f"liked{n}" for n in range(20)]
        kept = [e.item_id for e in await features.exported(include_impressions=True) if e.user_id == "bob"]
        assert 300 <= len(kept) <= 500
        assert kept[-1] == "i999"
        held = await features.ask("ExportUser", user_id="bob")
        assert [e.item_id for e in held.events] == kept
        assert (await features.ask("DeleteUser", user_id="bob")).existed
        assert {e.user_id for e in await features.exported(include_impressions=True)} == {"ann"}


async def test_only_what_was_exported_and_is_old_leaves_the_log(
    session_valkey: RunningValkey, features: Features
) -> None:
    await features.record(*(event("ann", f"i{n}", IMPRESSION, time_ms=NOW_MS + n) for n in range(250)))
    await features.record(*(event("ann", f"i{n}", time_ms=NOW_MS + n) for n in range(250)))
    store = Store(StoreAddress(session_valkey.url))
    try:
        schema = await open_domain(store, features.domain, num_shards=8, secret="")
        exporter = Exporter(store, DomainKeys(features.domain, 8), schema)
        later = 10 * NOW_MS
        assert await exporter.trim(before_ms=later) == 0  # not exported yet
        assert len(await features.exported()) == 250
        assert await exporter.trim(before_ms=NOW_MS) == 0  # not old yet
        trimmed = await exporter.trim(before_ms=later)
        assert 0 < trimmed < 250  # whole nodes of the stream
        assert len(await features.exported()) == 250 - trimmed
        shown = [e for e in await features.exported(include_impressions=True) if e.action == IMPRESSION]
        assert len(shown) == 250, "they were not exported, and have days of their own"
    finally:
        await store.close()
