"""A server that is asked for too much does in time what it takes on, and what matters most first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from warmstart.adaptation.v1 import adaptation_service_pb2
from warmstart.features.v1 import feature_service_pb2
from warmstart.gateway.v1 import catalog_service_pb2, recommendation_service_pb2, user_service_pb2
from warmstart.scoring.v1 import scoring_service_pb2
from warmstart.training.v1 import training_service_pb2

from shared.errors import RETRY_KEY, Overloaded, Unavailable
from shared.rpc.admission import _BY_NAME, Admission, Limit, Place, Priority, priority_of

FILES = (
    adaptation_service_pb2, feature_service_pb2, catalog_service_pb2, recommendation_service_pb2,
    user_service_pb2, scoring_service_pb2, training_service_pb2,
)  # fmt: skip
WRITE, LIST, BULK = Priority.WRITE, Priority.LIST, Priority.BULK


class Clock:
    """Moves on by `round_s` whenever it is read, as a round of the event loop takes so long."""

    def __init__(self, round_s: float) -> None:
        self.now, self.round_s = 100.0, round_s

    def __call__(self) -> float:
        self.now += self.round_s
        return self.now


def admission(clock: Clock, most: int = 256, in_work: int = 0) -> Admission:
    return Admission("gateway", most, clock, computed=clock, ready=True, in_work=in_work)


def ended(door: Admission, count: int) -> None:
    for _ in range(count):
        door.end(Place(LIST, door.clock(), 1e9))


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def twenty_waiting() -> AsyncIterator[tuple[Admission, Clock]]:
    """Lists in a queue behind three in work, on a clock that stands from then on; they go at the end."""
    clock = Clock(0.005)
    door = admission(clock, in_work=3)
    waiting = [asyncio.ensure_future(door.begin(LIST)) for _ in range(20)]
    await rounds(2)
    clock.round_s = 0.0
    yield door, clock
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_calls_begin_at_once_while_few_are_in_work() -> None:
    door = admission(Clock(1.0))
    first, _ = [await door.begin(LIST) for _ in range(2)]
    assert (door.in_work, door.waiting) == (2, 0)
    door.end(first)
    assert door.in_work == 1


async def test_while_rounds_are_short_a_call_begins_in_each() -> None:
    """Calls in work that only wait for another server do not hold up the others."""
    door = admission(Clock(0.0), in_work=100)
    calls = [asyncio.ensure_future(door.begin(LIST)) for _ in range(10)]
    await rounds(13)
    assert all(call.done() for call in calls)
    assert (door.in_work, door.waiting) == (110, 0)


async def test_while_rounds_are_long_calls_wait_until_few_are_in_work() -> None:
    door = admission(Clock(0.005), in_work=3)
    call = asyncio.ensure_future(door.begin(LIST))
    await rounds(10)
    assert (door.in_work, door.waiting) == (3, 1)
    ended(door, 2)
    await rounds(3)
    assert call.done()
    assert (door.in_work, door.waiting) == (2, 0)


async def test_what_people_did_goes_before_lists_and_lists_before_bulk() -> None:
    door, begun = admission(Clock(0.005), in_work=3), []

    async def ask(priority: Priority, name: str) -> None:
        await door.begin(priority)
        begun.append(name)

    calls = [
        asyncio.ensure_future(ask(priority, name))
        for priority, name in ((BULK, "b"), (LIST, "l1"), (LIST, "l2"), (WRITE, "w"))
    ]
    await rounds(2)
    door.in_work = 0
    for _ in range(20):
        await rounds(1)
        door.in_work = 0
    assert begun == ["w", "l1", "l2", "b"]
    await asyncio.gather(*calls)


async def refused_after(door: Admission, clock: Clock, remaining_s: float | None) -> float:
    """Seconds that a list waits in vain."""
    call = asyncio.ensure_future(door.begin(LIST, remaining_s))
    began = clock.now
    while not call.done():
        await rounds(1)
    with pytest.raises(Overloaded, match="gateway could not begin it in time"):
        await call
    return clock.now - began


async def test_a_call_of_a_burst_may_wait_half_of_what_its_caller_has_left() -> None:
    clock = Clock(0.005)
    door = admission(clock, in_work=3)
    assert await refused_after(door, clock, 1.0) == pytest.approx(0.5, abs=0.03)
    assert await refused_after(door, clock, None) == pytest.approx(5.0, abs=0.03)
    assert (door.in_work, door.waiting) == (3, 0)


async def test_in_a_queue_that_stands_a_list_waits_a_fifth_of_a_second_and_half_as_much_once_let_in() -> None:
    clock = Clock(0.005)
    door = admission(clock, in_work=3)
    first = asyncio.ensure_future(door.begin(LIST))
    began = clock.now
    while clock.now - began < 1.1:
        await rounds(1)
    assert await refused_after(door, clock, 1.0) == pytest.approx(0.3, abs=0.05)
    # Nobody is let in whose turn comes after a fifth: one of these in a second each.
    door._begun.extend(clock.now - ago for ago in range(16, 0, -1))
    with pytest.raises(Overloaded, match=r"this one may wait 0\.200 s"):
        door.let_in(LIST, 1.0)
    door._begun.clear()
    # A caller with more time has seen no more than a stall yet.
    assert await refused_after(door, clock, 3.0) == pytest.approx(1.5, abs=0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await rounds(2)
    # It was empty: what comes now is a burst again.
    assert await refused_after(door, clock, 1.0) == pytest.approx(0.5, abs=0.03)


async def test_a_call_that_would_wait_too_long_is_refused_at_once_and_told_when_to_come_again() -> None:
    """Where 10 ms lie between two turns, twenty calls before it are .2 s: too long for a deadline in .2 s,
    not for one in half a second."""
    async with twenty_waiting() as (door, clock):
        door._begun.extend(clock.now - 0.01 * ago for ago in range(16, 0, -1))
        door.let_in(LIST, 0.5)
        # The one that was let in counts, though it has not asked to begin yet.
        too_long = r"has 21 calls waiting, for 0.210 s; this one may wait 0.100 s"
        with pytest.raises(Overloaded, match=too_long) as no:
            door.let_in(LIST, 0.2)
        assert no.value.metadata[RETRY_KEY] == "110"
        # Once it has arrived it is in the queue or gone; one that never does counts for a moment.
        door.arrived(LIST)
        with pytest.raises(Overloaded, match=r"has 20 calls waiting"):
            door.let_in(LIST, 0.2)
        door.let_in(LIST, 0.5)
        clock.now += 0.11
        with pytest.raises(Overloaded, match=r"has 20 calls waiting"):
            door.let_in(LIST, 0.2)
        door.let_in(WRITE, 0.2)  # it goes before them all
    assert (door.in_work, door.waiting) == (3, 0)


async def test_stalls_refuse_nobody_who_has_the_time_for_them() -> None:
    """Sixteen turns, 1 ms apart but for two pauses of .7 s: by their mean twenty calls would seem to take
    1.8 s. A third pause among seventeen is no stall: without two of them 15 turns took .714 s, twenty take
    .952."""
    async with twenty_waiting() as (door, clock):
        first, second = [0.001 * n for n in range(8)], [0.707 + 0.001 * n for n in range(8)]
        door._begun.extend(clock.now + after for after in (*first, *second))
        clock.now += 1.414
        door.let_in(LIST, 2.0)
        door._begun.append(clock.now)
        clock.now += 0.7
        with pytest.raises(Overloaded, match=r"has 20 calls waiting, for 0.952 s; this one may wait 0.400 s"):
            door.let_in(LIST, 2.0)


async def test_of_too_few_turns_nothing_is_learned() -> None:
    """A server that was just started is slow for its first calls."""
    async with twenty_waiting() as (door, clock):
        door._begun.extend(clock.now - 0.5 * ago for ago in range(12, 0, -1))
        door.let_in(LIST, 2.0)


async def test_after_a_burst_and_some_quiet_calls_are_let_in_as_before_it() -> None:
    """How far beginnings lay apart in a queue that is gone says nothing of now."""
    clock = Clock(0.0005)
    door = admission(clock, in_work=2)
    burst = [asyncio.ensure_future(door.begin(LIST, 1.0)) for _ in range(20)]
    for place in await asyncio.gather(*burst):
        door.end(place)
    assert len(door._begun) >= 16
    clock.now += 60.0
    for _ in range(20):
        door.let_in(LIST, 0.5)


async def test_a_caller_who_goes_leaves_no_place_taken() -> None:
    door = admission(Clock(0.0), in_work=3)
    leaves_first = asyncio.ensure_future(door.begin(LIST))
    await rounds(1)
    leaves_first.cancel()
    await rounds(2)
    assert (door.in_work, door.waiting) == (3, 0)
    leaves_as_its_turn_comes = asyncio.ensure_future(door.begin(LIST))
    await rounds(1)
    door._begin_next(door.clock())
    leaves_as_its_turn_comes.cancel()
    await rounds(2)
    assert (door.in_work, door.waiting) == (3, 0)


@pytest.mark.parametrize("round_s", [0.0, 0.6])
async def test_callers_who_go_in_the_very_round_of_their_turn_or_refusal_stop_nobody(round_s: float) -> None:
    """Cancelled, and not yet told so when the round comes: a short one, and one that ends their time."""
    door = admission(Clock(round_s), in_work=3)
    leaving = [asyncio.ensure_future(door.begin(LIST, 1.0)) for _ in range(3)]
    await asyncio.sleep(0)
    for call in leaving:
        call.cancel()
    door._round()
    await asyncio.gather(*leaving, return_exceptions=True)
    await rounds(3)
    assert (door.in_work, door.waiting, door._next) == (3, 0, None)
    door.in_work = 0
    await door.begin(LIST)
    assert door.in_work == 1


async def test_a_caller_who_goes_as_they_are_refused_was_never_in_work() -> None:
    door = admission(Clock(0.6), in_work=3)
    call = asyncio.ensure_future(door.begin(LIST, 1.0))
    await asyncio.sleep(0)
    door._refuse_late(door.clock())
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (door.in_work, door.waiting) == (3, 0)


async def test_the_most_is_of_calls_in_work_and_waiting() -> None:
    door = admission(Clock(1.0), most=5, in_work=3)
    waiting = [asyncio.ensure_future(door.begin(LIST)) for _ in range(2)]
    await rounds(1)
    with pytest.raises(Overloaded, match="gateway has 5 calls in work, its limit"):
        await door.begin(WRITE)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("many", "few", "what"),
    [
        (WRITE, LIST, "writes"),
        (LIST, WRITE, "calls that are no writes"),
        (BULK, WRITE, "calls that are no writes"),
    ],
)
async def test_writes_that_wait_for_a_disk_leave_places_to_lists_and_lists_to_writes(
    many: Priority, few: Priority, what: str
) -> None:
    """Three quarters of eight are six, in work, in the queue or on their way."""
    door = admission(Clock(0.0), most=8)
    calls = [asyncio.ensure_future(door.begin(many)) for _ in range(5)]
    await rounds(10)
    door.let_in(many)
    with pytest.raises(Overloaded, match=f"gateway has 6 {what} in work, its limit") as no:
        door.let_in(many)
    assert no.value.metadata[RETRY_KEY] == "1000"
    for _ in range(2):
        door.let_in(few)
    with pytest.raises(Overloaded, match="gateway has 8 calls in work, its limit"):
        door.let_in(few)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_server_of_one_place_takes_whatever_comes() -> None:
    for priority in Priority:
        door = admission(Clock(0.0), most=1)
        door.let_in(priority)
        door.arrived(priority)
        await door.begin(priority)


async def test_as_many_are_in_work_as_the_limit_says_but_what_people_did_begins_all_the_same() -> None:
    door = admission(Clock(0.0))
    door.limit.value = 3.0
    places = [await door.begin(LIST) for _ in range(2)]
    calls = [asyncio.ensure_future(door.begin(LIST)) for _ in range(2)]
    await rounds(5)
    assert (door.in_work, door.waiting) == (3, 1)
    write = asyncio.ensure_future(door.begin(WRITE))
    await rounds(5)
    assert write.done()
    assert (door.in_work, door.limited, door.waiting) == (4, 3, 1)
    door.end(places[0])
    await rounds(5)
    assert all(call.done() for call in calls)
    assert (door.in_work, door.limited, door.waiting) == (4, 3, 0)


async def test_bulk_calls_leave_half_of_the_places_to_lists() -> None:
    door = admission(Clock(0.0))
    door.limit.value = 8.0
    bulk = [asyncio.ensure_future(door.begin(BULK)) for _ in range(10)]
    await rounds(20)
    assert (door.in_work, door.waiting) == (4, 6)
    lists = [asyncio.ensure_future(door.begin(LIST)) for _ in range(5)]
    await rounds(20)
    assert (door.in_work, door.limited, door.waiting) == (8, 8, 7)
    door.end(await lists[0])
    await rounds(5)
    assert all(call.done() for call in lists)
    for call in bulk:
        call.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)


async def test_calls_that_wait_for_room_take_no_rounds_of_the_loop_and_are_still_refused_in_time() -> None:
    looked = 0

    def computed() -> float:
        nonlocal looked
        looked += 1
        return 0.0

    door = Admission("gateway", 256, computed=computed, ready=True, in_work=3)
    door.limit.value = 0.0
    with pytest.raises(Overloaded, match="could not begin it in time"):
        await door.begin(LIST, 0.1)
    assert looked <= 6


def test_the_limit_falls_once_for_all_that_were_in_work_and_grows_by_one_for_as_many_as_it_allows() -> None:
    """10 · .9 = 9, and not 8.1: the second call began before the first one told; then nine calls of ninth
    parts are about one more."""
    limit = Limit(100.0, 10.0)
    limit.learn(0.7, 1.01, 0.3, full=True)
    limit.learn(0.8, 1.2, 0.3, full=True)
    assert limit.value == pytest.approx(9.0)
    for _ in range(9):
        limit.learn(2.0, 2.1, 0.3, full=True)
    assert limit.value == pytest.approx(9.96, abs=0.01)
    limit.learn(2.0, 2.1, 0.3, full=False)  # nobody asked for more
    assert limit.value == pytest.approx(9.96, abs=0.01)
    for second in range(3, 40):
        limit.learn(second, second + 0.4, 0.3, full=True)
    assert limit.value == 8.0


def test_the_limit_falls_the_faster_the_longer_calls_take_and_by_half_at_most() -> None:
    """From 64: calls of twice what they may take halve it, of ten times, too, of 5/4, too much by a fifth,
    take a fifth."""
    limit = Limit(100.0, 64.0)
    limit.learn(0.0, 0.6, 0.3, full=True)
    assert limit.value == pytest.approx(32.0)
    limit.learn(1.0, 4.0, 0.3, full=True)
    assert limit.value == pytest.approx(16.0)
    limit.learn(5.0, 5.375, 0.3, full=True)
    assert limit.value == pytest.approx(12.8)


def test_the_limit_is_never_more_than_the_server_takes() -> None:
    limit = Limit(10.0, 9.99)
    limit.learn(0.0, 0.1, 0.3, full=True)
    assert limit.value == 10.0


def test_nothing_is_let_in_before_the_server_is_ready() -> None:
    with pytest.raises(Unavailable, match="gateway is starting or stopping"):
        Admission("gateway", 9).let_in(WRITE)


def test_priorities_are_of_methods_that_there_are() -> None:
    services = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
    assert set(_BY_NAME) <= {method.name for service in services for method in service.methods}
    lists = recommendation_service_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name
    assert priority_of(f"/{lists}/RecordFeedback") is WRITE
    assert priority_of(f"/{lists}/Recommend") is LIST
    assert priority_of("/warmstart.features.v1.FeatureService/UpsertItems") is BULK
