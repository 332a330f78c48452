from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog.testing

from services.gateway.impressions import ImpressionLog
from shared.domain import Action, Event, Exposure
from shared.errors import InvalidInput, Unavailable
from tests.fakes import FakeFeatures
from tests.model_servers import until


def shown(count: int, user_id: str = "ann", list_id: str = "list") -> list[Event]:
    return [
        Event(user_id, f"i{n}", Action.IMPRESSION, 0.0, 1, f"{list_id}:{n}", Exposure(list_id, n, 1.0))
        for n in range(count)
    ]


def log_of(features: FakeFeatures, **settings: int | float) -> ImpressionLog:
    fields: dict[str, int | float] = {"queue": 100, "batch": 10, "linger_s": 0.0, "flush_timeout_s": 5.0}
    return ImpressionLog(features, **(fields | settings))  # type: ignore[arg-type]


def count(counter: object, *labels: str) -> float:
    return (counter.labels(*labels) if labels else counter)._value.get()  # type: ignore[attr-defined,no-any-return]


async def test_impressions_are_stored_in_batches() -> None:
    features = FakeFeatures()
    log = log_of(features)
    log.offer("default", shown(25), since=log.moment)
    log.start()

    async def done() -> bool:
        return len(features.recorded) == 25

    await until(done)
    assert features.record_calls == 3
    await log.stop()
    assert count(log.logged) == 25


async def test_they_wait_while_features_are_away_and_are_stored_once() -> None:
    features = FakeFeatures()
    features.down = Unavailable("away")
    log = log_of(features)
    log.start()
    log.offer("default", shown(3), since=log.moment)

    async def tried() -> bool:
        return features.record_calls >= 2

    await until(tried)
    assert len(log) == 3
    features.down = None

    async def done() -> bool:
        return len(log) == 0

    await until(done)
    assert len(features.recorded) == 3
    await log.stop()


async def test_what_finds_no_room_is_dropped_and_counted() -> None:
    log = log_of(FakeFeatures(), queue=4)
    log.offer("default", shown(3), since=log.moment)
    log.offer("default", shown(3, list_id="second"), since=log.moment)
    assert len(log) == 4
    assert count(log.dropped, "queue full") == 2


async def test_the_stop_flushes_what_waits() -> None:
    features = FakeFeatures()
    log = log_of(features)
    log.start()
    log.offer("default", shown(30), since=log.moment)
    await log.stop()
    assert len(features.recorded) == 30


async def test_the_stop_does_not_wait_for_ever() -> None:
    features = FakeFeatures()
    features.down = Unavailable("away")
    log = log_of(features, flush_timeout_s=0.05)
    log.start()
    log.offer("default", shown(3), since=log.moment)
    await asyncio.wait_for(log.stop(), 2)
    assert count(log.dropped, "not flushed at the stop") == 3


async def test_what_features_refuse_is_not_tried_for_ever() -> None:
    features = FakeFeatures()
    features.down = InvalidInput.of("events[0].time_ms", "must be", 1)
    log = log_of(features)
    log.start()
    log.offer("default", shown(3), since=log.moment)

    async def done() -> bool:
        return len(log) == 0

    await until(done)
    assert count(log.dropped, "refused") == 3
    await log.stop()


async def test_an_erased_person_leaves_nothing_waiting() -> None:
    features = FakeFeatures()
    features.down = Unavailable("away")
    log = log_of(features)
    log.start()
    log.offer(
        "default", [*shown(2, "ann", "l1"), *shown(2, "bob", "l2"), *shown(1, "ann", "l3")], since=log.moment
    )
    log.offer(
        "news", [replace(e, event_id=f"n{e.event_id}") for e in shown(1, "ann", "l4")], since=log.moment
    )
    await log.forget("default", "ann")
    features.down = None
    await log.stop()
    assert sorted(features.recorded) == ["l2:0", "l2:1", "nl4:0"]


async def test_a_queue_that_an_erasure_empties_as_it_is_about_to_be_sent_is_not_sent() -> None:
    features = FakeFeatures()
    log = log_of(features)
    log.offer("default", shown(1), since=log.moment)
    await log._sending.acquire()  # as another erasure does
    log.start()
    await asyncio.sleep(0)  # the worker has seen the queue, and waits
    erasing = asyncio.create_task(log.forget("default", "ann"))
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as said:
        log._sending.release()
        await erasing
        log.offer("default", shown(1, "bob"), since=log.moment)

        async def done() -> bool:
            return len(features.recorded) == 1

        await until(done)
    assert said == []
    await log.stop()


async def test_lists_shortly_after_one_another_are_logged_in_one_call() -> None:
    features = FakeFeatures()
    log = log_of(features, linger_s=0.05)
    log.start()
    log.offer("default", shown(2), since=log.moment)
    await asyncio.sleep(0)  # the worker has seen the first
    log.offer("default", shown(2, list_id="second"), since=log.moment)

    async def done() -> bool:
        return len(features.recorded) == 4

    await until(done)
    assert features.record_calls == 1
    await log.stop()


async def test_the_stop_does_not_linger() -> None:
    features = FakeFeatures()
    log = log_of(features, linger_s=3600.0)
    log.start()
    log.offer("default", shown(2), since=log.moment)
    await asyncio.sleep(0)
    await asyncio.wait_for(log.stop(), 2)
    assert len(features.recorded) == 2


async def test_who_is_forgotten_while_their_list_is_made_has_nothing_logged_of_it() -> None:
    """The list was begun before and answered after: its impressions would bring the person back."""
    features = FakeFeatures()
    log = log_of(features)
    begun = log.moment
    await log.forget("default", "ann")
    log.offer("default", [*shown(2, "ann", "l1"), *shown(2, "bob", "l2")], since=begun)
    log.offer("default", shown(1, "ann", "l3"), since=log.moment)  # begun after: a new life
    log.start()
    await log.stop()
    assert sorted(features.recorded) == ["l2:0", "l2:1", "l3:0"]
