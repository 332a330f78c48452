"""Attends one training: notes it, tells its watchers, follows its process to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import psutil

from services.training.service.process import TrainingProcess, end_left_over, left_over
from services.training.service.store import TrainingStore
from services.training.service.training import (
    LogLine,
    Stage,
    State,
    Training,
    Update,
    text_of,
    told,
    update_of,
)
from services.training.service.watching import Watchers
from shared.errors import Unavailable
from shared.processes.trainer import ERROR
from shared.telemetry.logs import logger

_LOG = logger("trainings")


class Attendant:
    """One training. clock: milliseconds since the Unix epoch."""

    def __init__(self, training: Training, store: TrainingStore, clock: Callable[[], int]) -> None:
        self.training = training
        self._store, self._clock = store, clock
        self._watchers = Watchers()
        self._writing = asyncio.Lock()
        self._process: TrainingProcess | None = None
        self._follower: asyncio.Task[None] | None = None
        self._stopper: asyncio.Task[None] | None = None
        self._left_over: asyncio.Task[None] | None = None
        # How it ends where it ends without a result, other than by failing.
        self._ends_as: State | None = None

    async def begin(
        self, training: Training, note: Callable[[Training], None], program: Sequence[str]
    ) -> None:
        """Returns once the training is noted, by `note`, and its process started.

        Raises Unavailable where it cannot be noted; things are as they were then. Where its process cannot
        be started, the training has failed.
        """
        async with self._writing:  # its last end may still be being noted
            try:
                await asyncio.to_thread(note, training)
            except OSError as error:
                raise Unavailable(f"the training cannot be noted: {error}") from error
            self.training = training
        self._ends_as = self._stopper = None
        try:
            self._process = TrainingProcess.start(self._store.run(training.training_id), program)
        except OSError as error:
            await self._finish(f"its process cannot be started: {error}")
            return
        self.training = replace(self.training, process=self._process.mark)
        await self._note()
        self._follower = asyncio.create_task(self._follow(self._process))

    async def take_over(self, stop_s: float) -> None:
        """For a training that ran when an earlier server died: it is over, once its process is."""
        self._ends_as = State.STOPPED if self.training.state is State.STOPPING else State.INTERRUPTED
        process = left_over(self.training.process)
        if process is None:
            await self._finish()
            return
        self.training = replace(self.training, state=State.STOPPING)
        self._left_over = asyncio.create_task(self._outlast(process, stop_s))

    async def updates(self) -> AsyncGenerator[Update, None]:
        """The training as it is, what happens to it, and at last as it ended."""
        if not self.training.alive:
            yield self.training
            return
        async with aclosing(self._watchers.updates(self.training)) as updates:
            async for update in updates:
                yield update

    async def stop(self, within_s: float) -> None:
        """Asks the process to stop; returns once that is noted."""
        if self.training.state is State.RUNNING and self._process is not None:
            self._ends_as = State.STOPPED
            self._stopper = asyncio.create_task(self._process.stop(within_s))
            await self._change(replace(self.training, state=State.STOPPING))

    async def interrupt(self, within_s: float) -> None:
        """For the server's own end: returns once the process has ended and that is noted.

        One that an earlier server left over is left to the next server.
        """
        if self._left_over is not None:
            self._left_over.cancel()
        if self._process is not None and self._stopper is None:
            self._ends_as = State.INTERRUPTED
            self._stopper = asyncio.create_task(self._process.stop(within_s))
        tasks = (self._left_over, self._stopper, self._follower)
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)

    async def _follow(self, process: TrainingProcess) -> None:
        problem, settings_refused = "", False
        try:
            async for line in process.lines():
                if line.get("event") == ERROR:
                    problem, settings_refused = text_of(line.get("message")), line.get("settings") is True
                elif (update := update_of(line)) is not None:
                    await self._tell(update)
        except (ValueError, KeyError, TypeError) as error:
            problem = f"its process said what is not understood: {error}"
            await process.stop(0.0)
        code = await process.code()
        self._process = None
        problem = problem or await asyncio.to_thread(process.ending, code)
        await self._finish(problem, settings_refused=settings_refused)

    async def _outlast(self, process: psutil.Process, stop_s: float) -> None:
        await end_left_over(process, stop_s)
        await self._finish()

    async def _tell(self, update: Stage | LogLine) -> None:
        before = self.training
        self.training = told(before, update)
        self._watchers.tell(update)
        # Steps are many and soon old; they are noted with the next thing that is not.
        if isinstance(update, LogLine) or len(self.training.stages) > len(before.stages):
            await self._note()

    async def _finish(self, problem: str = "", *, settings_refused: bool = False) -> None:
        """Whatever the process said or its code: it succeeded where its run says so."""
        ended = replace(self.training, process=None, ended_ms=self._clock())
        result = await asyncio.to_thread(self._store.result, ended.training_id)
        if result is not None:
            ended = replace(ended, state=State.SUCCEEDED, result=result)
        elif self._ends_as is not None:
            ended = replace(ended, state=self._ends_as)
        else:
            ended = replace(ended, state=State.FAILED, error=problem, settings_refused=settings_refused)
        await self._change(ended)

    async def _change(self, training: Training) -> None:
        """Its watchers are let go before the first wait: those who come after a new start are that one's."""
        self.training = training
        _LOG.info("training", id=training.training_id, domain=training.domain, state=training.state.name)
        self._watchers.tell(training)
        if not training.alive:
            self._watchers.end()
        await self._note()

    async def _note(self) -> None:
        """The newest state, also where several come at once. A full disk ends no training."""
        async with self._writing:
            try:
                await asyncio.to_thread(self._store.write, self.training)
            except OSError as error:
                _LOG.error("training_not_noted", id=self.training.training_id, error=str(error))
