"""Appending events over gRPC against a real Valkey."""

from __future__ import annotations

import asyncio

import pytest
from warmstart.common.v1 import event_pb2

from services.features.store.keys import DomainKeys
from shared.errors import InvalidInput, TooLarge, WarmstartError
from tests.integration.features.client import (
    DUPLICATE,
    NOW_MS,
    RECORDED,
    REJECTED,
    Features,
    event,
)
from tests.integration.features.conftest import Serve
from tests.valkey import RunningValkey

IMPRESSION, VIEW, LIKE, RATING = 1, 2, 4, 7


async def test_an_event_is_in_the_very_next_context(features: Features) -> None:
    assert await features.record(event("ann", "a")) == [RECORDED]
    answer = await features.context("ann")
    assert list(answer.context.history.item_ids) == ["a"]
    assert list(answer.context.history.actions) == [LIKE]
    assert list(answer.seen_item_ids) == ["a"]
    assert answer.context.total_events == 1


async def test_a_second_event_of_the_same_id_changes_nothing(features: Features) -> None:
    assert await features.record(event("ann", "a", event_id="e1")) == [RECORDED]
    assert await features.record(event("ann", "b", event_id="e1")) == [DUPLICATE]
    assert await features.history("ann") == ["a"]
    assert await features.record(event("bob", "b", event_id="e1")) == [RECORDED]  # another person's id


async def test_within_one_call_the_first_of_an_id_counts(features: Features) -> None:
    twice = [event("ann", "a", event_id="e1"), event("ann", "a", event_id="e1")]
    assert await features.record(*twice) == [RECORDED, DUPLICATE]


async def test_events_without_an_id_are_the_same_when_sent_again(features: Features) -> None:
    rows = [event("ann", f"i{n}", RATING, value=4.0, time_ms=NOW_MS + n) for n in range(20)]
    assert await features.record(*rows) == [RECORDED] * 20
    assert await features.record(*rows) == [DUPLICATE] * 20
    assert len(await features.exported()) == 20


async def test_events_without_id_and_time_are_each_their_own(features: Features) -> None:
    assert await features.record(event("ann", "a", time_ms=0), event("ann", "a", time_ms=0)) == [RECORDED] * 2


async def test_callers_that_race_with_the_same_events_store_each_once(serve: Serve) -> None:
    events = [event(f"u{n % 7}", f"i{n}", event_id=f"e{n}") for n in range(100)]
    async with serve() as one, serve() as other:
        answers = await asyncio.gather(*(part.record(*events) for part in (one, other) * 4))
        assert [statuses.count(RECORDED) for statuses in zip(*answers, strict=True)] == [1] * 100
        assert len(await one.exported()) == 100


async def test_late_events_take_their_place_in_time_and_ties_keep_their_order(features: Features) -> None:
    await features.record(event("ann", "noon", time_ms=NOW_MS + 2), event("ann", "dusk", time_ms=NOW_MS + 3))
    await features.record(event("ann", "dawn", time_ms=NOW_MS + 1))
    await features.record(*(event("ann", name, time_ms=NOW_MS + 2) for name in ("z", "a", "m")))
    assert await features.history("ann") == ["dawn", "noon", "z", "a", "m", "dusk"]


async def test_the_history_is_capped_by_time_and_the_seen_set_apart_and_larger(serve: Serve) -> None:
    async with serve(history_events=3, seen_items=5) as features:
        await features.record(*(event("ann", f"i{n}", time_ms=NOW_MS + n) for n in range(10)))
        await features.record(event("ann", "old", time_ms=NOW_MS - 1))  # older than all that is kept
        answer = await features.context("ann")
        assert list(answer.context.history.item_ids) == ["i7", "i8", "i9"]
        assert list(answer.seen_item_ids) == ["i9", "i8", "i7", "i6", "i5"]
        assert answer.context.total_events == 11


async def test_seeing_an_item_again_makes_it_the_newest_but_a_late_event_does_not_age_it(
    features: Features,
) -> None:
    await features.record(event("ann", "a", time_ms=NOW_MS + 1), event("ann", "b", time_ms=NOW_MS + 2))
    await features.record(event("ann", "a", time_ms=NOW_MS + 3))
    await features.record(event("ann", "a", time_ms=NOW_MS))
    assert list((await features.context("ann")).seen_item_ids) == ["a", "b"]


async def test_impressions_go_to_the_log_only_and_keep_their_exposure(features: Features) -> None:
    shown = event_pb2.Exposure(
        list_id="l1", position=3, propensity=0.25, source="model", model_version="v1", experiment_key="x"
    )
    assert await features.record(event("ann", "a", IMPRESSION, exposure=shown)) == [RECORDED]
    answer = await features.context("ann")
    assert not answer.context.history.item_ids
    assert not answer.seen_item_ids
    assert answer.context.total_events == 0
    assert await features.exported() == []
    (logged,) = await features.exported(include_impressions=True)
    assert logged.exposure == shown


async def test_ids_are_recognised_within_the_window_and_forgotten_past_it(serve: Serve) -> None:
    async with serve(dedupe_events=3) as features:
        await features.record(*(event("ann", f"i{n}", event_id=f"e{n}") for n in range(4)))
        assert await features.record(event("ann", "i1", event_id="e1")) == [DUPLICATE]
        assert await features.record(event("ann", "i0", event_id="e0")) == [RECORDED]


async def test_a_bad_event_is_rejected_by_name_and_the_others_go_on(features: Features) -> None:
    bad = [
        (event("", "a"), "events[1].user_id must be 1..256 bytes, got ''"),
        (event("ann", "x" * 257), "events[2].item_id must be 1..256 bytes"),
        (event("ann", "a", 0), "events[3].action must be one of"),
        (event("ann", "a", 42), "events[4].action must be one of"),
        (event("ann", "a", RATING, value=6.0), "events[5].value must be"),
        (event("ann", "a", value=float("nan")), "events[6].value must be finite"),
        (event("ann", "a", time_ms=9_000_000_000_000), "events[7].time_ms must be"),
        (event("a\nb", "a"), "events[8].user_id must not hold control characters"),
    ]
    messages = [event("ann", "first"), *(message for message, _ in bad), event("ann", "last")]
    results = (await features.ask("RecordEvents", events=messages)).results
    assert [r.status for r in results] == [RECORDED, *[REJECTED] * len(bad), RECORDED]
    for result, (_, reason) in zip(results[1:-1], bad, strict=True):
        assert reason in result.reason
    assert await features.history("ann") == ["first", "last"]


async def test_a_malformed_request_is_refused_as_a_whole(features: Features) -> None:
    with pytest.raises(TooLarge, match="events must hold at most 5000, got 5001"):
        await features.ask("RecordEvents", events=[event("ann", "a")] * 5001)
    with pytest.raises(InvalidInput, match=f"domain must be one of {features.domain}, got 'other'"):
        await features.ask("RecordEvents", domain="other")
    with pytest.raises(InvalidInput, match=r"user_id must be 1\.\.256 bytes, got ''"):
        await features.context("")


async def test_five_thousand_events_go_in_one_call(features: Features) -> None:
    events = [event(f"u{n % 90}", f"i{n}", VIEW, time_ms=NOW_MS + n) for n in range(5000)]
    assert await features.record(*events) == [RECORDED] * 5000
    assert len(await features.exported()) == 5000


async def test_a_script_that_meets_a_wrong_type_writes_nothing(
    session_valkey: RunningValkey, features: Features
) -> None:
    """An event between its append and its dedupe mark would be lost for good when it is sent again."""
    history = DomainKeys(features.domain, 8).shard("ann").history("ann")
    with session_valkey.client() as client:
        client.set(history, "damaged")
        with pytest.raises(WarmstartError, match="internal error"):
            await features.record(event("ann", "a", event_id="e1"))
        assert await features.exported() == []
        client.delete(history)
    assert await features.record(event("ann", "a", event_id="e1")) == [RECORDED]
