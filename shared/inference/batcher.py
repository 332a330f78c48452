"""Micro-batches on one worker thread: no waiting at low load, ever larger batches as load grows.

While a batch runs, arriving jobs queue; the next batch takes all of them, up to `max_batch`. (Clipper,
Crankshaw et al., NSDI 2017, batches adaptively for the same reason; a timer would only add latency here.)

Under overload, a queue served in order answers everyone just too late. So a job that will not be done by
its deadline, as recent batches went, is refused when it arrives or dropped when its turn comes: what is
worked on is still wanted when it is done.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from shared.errors import DeadlinePassed, Overloaded, Unavailable

J = TypeVar("J")
R = TypeVar("R")

# How much a new batch counts in the typical time of a batch.
_NEW_WEIGHT = 0.2
_log = structlog.get_logger(part="inference")


def _ignore(size: int) -> None:
    """For those who do not count."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[J, R]):
    job: J
    deadline: float | None
    answer: asyncio.Future[R]


class MicroBatcher(Generic[J, R]):
    """Runs `run(jobs)` on `executor`, one batch at a time. Made and used on one event loop.

    run: gives one result or exception for each job, in order; an exception fails that job alone.
    max_batch: most jobs a batch. max_queued: most jobs waiting; more are refused. observe: is told the size
    of each batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[J]], Sequence[R | Exception]],
        executor: Executor,
        *,
        max_batch: int,
        max_queued: int,
        observe: Callable[[int], None] = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._observe = observe
        self._clock = clock
        self._typical_s = 0.0  # what a batch takes, as recent ones went
        self._queue: deque[_Waiting[J, R]] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return len(self._queue)

    def start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="micro-batcher")

    async def stop(self) -> None:
        """Refuses what still waits; the batch in work is let finish."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        while self._queue:
            self._settle(self._queue.popleft(), Unavailable("the server is stopping"))

    async def submit(self, job: J, deadline: float | None = None) -> R:
        """The job's result. deadline: on the clock of `time.monotonic`; None = none.

        Raises Overloaded where the queue is full or too long for the deadline, DeadlinePassed where the
        job cannot be done by its deadline when its turn comes, Unavailable where the batcher is stopped,
        and what `run` gave for the job.
        """
        if self._worker is None:
            raise Unavailable("the server is stopping")
        if len(self._queue) >= self._max_queued:
            raise Overloaded(f"{self._max_queued} jobs wait for the model, the limit")
        # Batches before this job's own; with none waiting it is let in, so that the estimate can recover.
        before = len(self._queue) // self._max_batch
        needed_s = (before + 1) * self._typical_s
        if before and deadline is not None and self._clock() + needed_s > deadline:
            raise Overloaded(
                f"{len(self._queue)} jobs wait for the model: {needed_s:.3f} s, past the deadline"
            )
        waiting: _Waiting[J, R] = _Waiting(job, deadline, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                continue
            self._observe(len(batch))
            started = self._clock()
            running = loop.run_in_executor(self._executor, self._results, [w.job for w in batch])
            try:
                results = await asyncio.shield(running)
            except asyncio.CancelledError:
                results = await running
                self._answer(batch, results)
                raise
            self._typical_s += _NEW_WEIGHT * (self._clock() - started - self._typical_s)
            self._answer(batch, results)

    def _take(self) -> list[_Waiting[J, R]]:
        """The jobs whose turn it is; those whose caller has stopped waiting are dropped."""
        batch: list[_Waiting[J, R]] = []
        now = self._clock()
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.answer.done():  # the caller is gone
                continue
            # The first job of a batch only has to be in time: an estimate that is off must not stop all work.
            done_at = now + (self._typical_s if batch else 0.0)
            if waiting.deadline is not None and waiting.deadline <= done_at:
                self._settle(
                    waiting, DeadlinePassed("the deadline passed while the call waited for the model")
                )
                continue
            batch.append(waiting)
        if not self._queue:
            self._arrived.clear()
        return batch

    def _results(self, jobs: Sequence[J]) -> Sequence[R | Exception]:
        """On the worker thread."""
        try:
            results = self._run(jobs)
            if len(results) != len(jobs):
                raise RuntimeError(f"run must give {len(jobs)} results, gave {len(results)}")
            return results
        except Exception as error:
            _log.error("batch_failed", jobs=len(jobs), exc_info=error)
            return [error] * len(jobs)

    def _answer(self, batch: Sequence[_Waiting[J, R]], results: Sequence[R | Exception]) -> None:
        for waiting, result in zip(batch, results, strict=True):
            self._settle(waiting, result)

    @staticmethod
    def _settle(waiting: _Waiting[J, R], result: R | Exception) -> None:
        if waiting.answer.done():
            return
        if isinstance(result, Exception):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)
