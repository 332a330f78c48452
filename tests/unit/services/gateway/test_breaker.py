from __future__ import annotations

import pytest

from services.gateway.breaker import Breaker
from shared.errors import DeadlinePassed, InvalidInput, NoModel, Unavailable, WarmstartError


class Service:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: WarmstartError | None = Unavailable("away")

    async def __call__(self) -> str:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return "answer"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("scoring", failures=2, open_s=1.0, clock=clock)


async def fails(breaker: Breaker, service: Service, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(WarmstartError):
            await breaker.run(service)


async def test_after_failures_in_a_row_the_service_is_not_asked(breaker: Breaker) -> None:
    service = Service()
    await fails(breaker, service, 5)
    assert service.asked == 2
    with pytest.raises(Unavailable, match="scoring is away and was not asked"):
        await breaker.run(service)


async def test_a_success_between_failures_starts_the_count_again(breaker: Breaker) -> None:
    service = Service()
    for _ in range(3):
        service.error = DeadlinePassed("slow")
        await fails(breaker, service)
        service.error = None
        assert await breaker.run(service) == "answer"
    assert not breaker.is_open


async def test_callers_in_a_hurry_do_not_take_the_service_from_the_others(clock: Clock) -> None:
    breaker, service = Breaker("scoring", failures=2, open_s=1.0, patience_s=0.25, clock=clock), Service()
    service.error = DeadlinePassed("slow")
    for _ in range(10):
        with pytest.raises(DeadlinePassed):
            await breaker.run(service, given_s=0.24)
    assert not breaker.is_open
    for _ in range(2):
        with pytest.raises(DeadlinePassed):
            await breaker.run(service, given_s=0.25)
    assert breaker.is_open


async def test_nor_do_hurried_writes_which_are_made_whatever_the_breaker_says(clock: Clock) -> None:
    breaker, service = Breaker("features", failures=2, open_s=1.0, patience_s=0.25, clock=clock), Service()
    service.error = DeadlinePassed("slow")
    for _ in range(10):
        with pytest.raises(DeadlinePassed):
            await breaker.probe(service, given_s=0.24)
    assert not breaker.is_open
    for _ in range(2):
        with pytest.raises(DeadlinePassed):
            await breaker.probe(service, given_s=0.25)
    assert breaker.is_open


@pytest.mark.parametrize("how", ["run", "probe"])
@pytest.mark.parametrize(("took_s", "opens"), [(1.0, True), (1.25, True), (1.375, False), (3.0, False)])
async def test_a_stall_of_this_process_is_not_blamed_on_the_service(
    breaker: Breaker, clock: Clock, how: str, took_s: float, opens: bool
) -> None:
    """All calls in work during one pass their deadlines, of every service."""

    async def passes_its_deadline() -> str:
        clock.now += took_s
        raise DeadlinePassed("of 1 s")

    for _ in range(2):
        with pytest.raises(DeadlinePassed):
            await getattr(breaker, how)(passes_its_deadline, given_s=1.0)
    assert breaker.is_open == opens


async def test_a_hurry_does_not_excuse_a_service_that_cannot_be_reached(clock: Clock) -> None:
    breaker, service = Breaker("scoring", failures=2, open_s=1.0, patience_s=0.25, clock=clock), Service()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await breaker.run(service, given_s=0.001)
    assert breaker.is_open


async def test_one_call_tries_again_after_a_while_and_its_success_closes(
    breaker: Breaker, clock: Clock
) -> None:
    service = Service()
    await fails(breaker, service, 2)
    clock.now += 1.0
    await fails(breaker, service, 3)
    assert service.asked == 3
    clock.now += 1.0
    service.error = None
    assert await breaker.run(service) == "answer"
    assert not breaker.is_open


@pytest.mark.parametrize(
    "error", [NoModel("none"), InvalidInput.of("x", "must be", 1), WarmstartError("bug")]
)
async def test_answers_that_are_errors_are_not_losses(breaker: Breaker, error: WarmstartError) -> None:
    service = Service()
    service.error = error
    await fails(breaker, service, 5)
    assert service.asked == 5
    assert not breaker.is_open


async def test_a_probe_that_finds_the_service_lets_a_call_through_at_once(breaker: Breaker) -> None:
    service = Service()
    await fails(breaker, service, 2)
    service.error = None
    assert await breaker.probe(service) == "answer"
    assert await breaker.run(service) == "answer"
    assert not breaker.is_open


async def test_probes_that_fail_spare_calls_the_trial(breaker: Breaker, clock: Clock) -> None:
    service = Service()
    await fails(breaker, service, 2)
    for _ in range(5):
        clock.now += 0.9
        with pytest.raises(Unavailable):
            await breaker.probe(service)
        with pytest.raises(Unavailable, match="was not asked"):
            await breaker.run(service)


async def test_probes_alone_find_a_loss(breaker: Breaker) -> None:
    service = Service()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await breaker.probe(service)
    await fails(breaker, service)
    assert service.asked == 2


async def test_a_trial_that_is_cancelled_lets_another_one_through(breaker: Breaker, clock: Clock) -> None:
    import asyncio

    service = Service()
    await fails(breaker, service, 2)
    clock.now += 1.0

    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    trial = asyncio.create_task(breaker.run(hangs))
    await asyncio.sleep(0)
    await fails(breaker, service)
    assert service.asked == 2  # the trial is under way
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    service.error = None
    assert await breaker.run(service) == "answer"
