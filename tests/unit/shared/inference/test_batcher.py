"""Micro-batches: bounded, deadlines kept, one bad job fails alone, nothing waits at low load."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from shared.errors import DeadlinePassed, Overloaded, Unavailable
from shared.inference.batcher import MicroBatcher


class Work:
    """Doubles numbers, fails on negative ones, and waits while `gate` is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, jobs: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(jobs))
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        if 13 in jobs:
            raise ValueError("unlucky batch")
        if 14 in jobs:
            return []
        return [ValueError(f"negative: {j}") if j < 0 else 2 * j for j in jobs]


@asynccontextmanager
async def batching(
    work: Work, *, max_batch: int = 4, max_queued: int = 8
) -> AsyncIterator[MicroBatcher[int, int]]:
    with ThreadPoolExecutor(1) as thread:
        batcher = MicroBatcher(work, thread, max_batch=max_batch, max_queued=max_queued)
        batcher.start()
        try:
            yield batcher
        finally:
            work.gate.set()
            await batcher.stop()


async def begun(work: Work, batches: int) -> None:
    """Waits until so many batches have begun."""
    async with asyncio.timeout(5):
        while len(work.batches) < batches:
            await asyncio.sleep(0)


async def test_a_lone_job_runs_at_once_off_the_event_loop() -> None:
    work = Work()
    async with batching(work) as batcher:
        assert await batcher.submit(21) == 42
    assert work.batches == [[21]]
    assert threading.get_ident() not in work.threads


async def test_what_arrives_while_a_batch_runs_goes_together() -> None:
    work = Work()
    work.gate.clear()
    async with batching(work, max_batch=4) as batcher:
        first = asyncio.ensure_future(batcher.submit(0))
        await begun(work, 1)
        rest = [asyncio.ensure_future(batcher.submit(n)) for n in range(1, 7)]
        await asyncio.sleep(0)
        work.gate.set()
        assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10, 12]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert len(work.threads) == 1


async def test_a_bad_job_fails_alone_and_a_bad_batch_as_a_whole() -> None:
    async with batching(Work()) as batcher:
        results = await asyncio.gather(*(batcher.submit(n) for n in (1, -1, 2)), return_exceptions=True)
        assert results[0] == 2
        assert str(results[1]) == "negative: -1"
        assert results[2] == 4
        with pytest.raises(ValueError, match="unlucky batch"):
            await batcher.submit(13)
        with pytest.raises(RuntimeError, match="run must give 1 results, gave 0"):
            await batcher.submit(14)
        assert await batcher.submit(5) == 10


async def test_a_full_queue_refuses() -> None:
    work = Work()
    work.gate.clear()
    async with batching(work, max_queued=2) as batcher:
        running = asyncio.ensure_future(batcher.submit(0))
        await begun(work, 1)
        waiting = [asyncio.ensure_future(batcher.submit(n)) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 jobs wait for the model, the limit"):
            await batcher.submit(3)
        work.gate.set()
        assert await asyncio.gather(running, *waiting) == [0, 2, 4]


async def test_jobs_past_their_deadline_or_given_up_are_not_run() -> None:
    work = Work()
    work.gate.clear()
    async with batching(work) as batcher:
        running = asyncio.ensure_future(batcher.submit(0))
        await begun(work, 1)
        late = asyncio.ensure_future(batcher.submit(1, time.monotonic() - 0.001))
        given_up = asyncio.ensure_future(batcher.submit(2))
        in_time = asyncio.ensure_future(batcher.submit(3, time.monotonic() + 60))
        await asyncio.sleep(0)
        given_up.cancel()
        work.gate.set()
        with pytest.raises(DeadlinePassed, match="while the call waited for the model"):
            await late
        assert await in_time == 6
        assert await running == 0
    assert work.batches == [[0], [3]]


async def test_stopping_lets_the_batch_in_work_finish_and_refuses_the_rest() -> None:
    work = Work()
    work.gate.clear()
    with ThreadPoolExecutor(1) as thread:
        batcher = MicroBatcher(work, thread, max_batch=4, max_queued=8)
        batcher.start()
        running = asyncio.ensure_future(batcher.submit(4))
        await begun(work, 1)
        waiting = asyncio.ensure_future(batcher.submit(5))
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(batcher.stop())
        await asyncio.sleep(0)
        work.gate.set()
        await stopping
        assert await running == 8
        for refused in (waiting, asyncio.ensure_future(batcher.submit(6))):
            with pytest.raises(Unavailable, match="the server is stopping"):
                await refused


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_cannot_be_done_in_time_is_refused_or_dropped() -> None:
    work, clock = Work(), Clock()

    def run(jobs: Sequence[int]) -> list[int | Exception]:
        results = work(jobs)
        clock.now += 1.0  # every batch takes a second
        return results

    with ThreadPoolExecutor(1) as thread:
        batcher = MicroBatcher(run, thread, max_batch=2, max_queued=100, clock=clock)
        batcher.start()
        for _ in range(60):  # by now a batch is known to take a second
            await batcher.submit(0)
        work.batches.clear()
        work.gate.clear()
        running = asyncio.ensure_future(batcher.submit(0))
        await begun(work, 1)
        now = clock.now
        # All done by now + 3: the one in work, then [1, 2]; 3 has its turn at now + 2 or later.
        in_time = [asyncio.ensure_future(batcher.submit(n, now + 2.5)) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"2 jobs wait for the model: 2\.000 s, past the deadline"):
            await batcher.submit(3, now + 1.9)
        late = asyncio.ensure_future(batcher.submit(4, now + 2.5))
        later = asyncio.ensure_future(batcher.submit(5, now + 2.5))
        patient = asyncio.ensure_future(batcher.submit(6))
        await asyncio.sleep(0)
        work.gate.set()
        assert await asyncio.gather(running, *in_time) == [0, 2, 4]
        # At now + 2 it is the turn of 4, the first of its batch: tried. 5 would be done at now + 3, too late.
        assert await late == 8
        with pytest.raises(DeadlinePassed):
            await later
        assert await patient == 12
        assert work.batches == [[0], [1, 2], [4, 6]]
        await batcher.stop()
