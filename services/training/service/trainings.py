"""The trainings of one server: started, resumed, stopped, watched, listed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from services.training.service.attendant import Attendant
from services.training.service.store import TrainingStore
from services.training.service.tidying import Tidying
from services.training.service.training import Places, State, Training, Update
from services.training.settings import TrainSettings
from shared.errors import InvalidInput, NotFound, Overloaded, SettingsError, Unavailable, WrongState
from shared.processes.trainer import PROGRAM
from shared.rpc.waiting import Dependency, Wait

_TRY_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """max_running: trainings at once, over all domains; stop_s: seconds that one gets to stop by itself;
    hold_s: seconds to wait for the directory, which an earlier server may still hold."""

    max_running: int
    stop_s: float
    hold_s: float


class Trainings:
    """Use it on one event loop, of the main thread. clock: milliseconds since the Unix epoch."""

    def __init__(
        self,
        store: TrainingStore,
        places: Places,
        limits: Limits,
        clock: Callable[[], int],
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._store, self._places, self._limits = store, places, limits
        self._clock, self._program = clock, program
        self._attendants: dict[str, Attendant] = {}
        # One start at a time: who looks whether a training may start must be the next to start one.
        self._admitting = asyncio.Lock()
        self._starts: set[asyncio.Task[Training]] = set()
        self._closed = False

    async def open(self) -> None:
        """Takes the directory and what earlier servers noted there. Raises SettingsError."""
        await self._hold()
        for training in await asyncio.to_thread(lambda: list(self._store.load())):
            attendant = Attendant(training, self._store, self._clock)
            self._attendants[training.training_id] = attendant
            if training.alive:
                await attendant.take_over(self._limits.stop_s)

    async def close(self) -> None:
        """Ends what runs, so that it can be resumed, and lets the directory go."""
        async with self._admitting:
            self._closed = True
        await asyncio.gather(*(a.interrupt(self._limits.stop_s) for a in self._attendants.values()))
        self._store.let_go()

    async def start(self, settings: TrainSettings, request_key: str = "") -> Training:
        """Returns once the training is noted and its process started.

        A key that was given before returns that training; InvalidInput where it was another one. Raises
        WrongState where one of the domain runs, Overloaded where too many do.
        """
        return await self._unbroken(self._start(settings, request_key))

    async def resume(self, domain: str, training_id: str, request_key: str = "") -> Training:
        """As `start`, for a training that ended without success. Raises NotFound, WrongState."""
        return await self._unbroken(self._resume(domain, training_id, request_key))

    async def stop(self, domain: str, training_id: str) -> Training:
        """Asks it to stop; returns it as it is then."""
        attendant = self._attendant(domain, training_id)
        await attendant.stop(self._limits.stop_s)
        return attendant.training

    async def watch(self, domain: str, training_id: str) -> AsyncGenerator[Update, None]:
        """See `Attendant.updates`."""
        async with aclosing(self._attendant(domain, training_id).updates()) as updates:
            async for update in updates:
                yield update

    async def tidy(self, tidying: Tidying) -> None:
        """Removes what is too old of trainings that do not run, and forgets those that went as a whole."""
        async with self._admitting:  # none may be resumed meanwhile
            alive = {t.training_id for t in self._all() if t.alive}
            for training_id in await asyncio.to_thread(tidying.tidy, self._clock() / 1000, alive):
                self._attendants.pop(training_id, None)

    def newest(self, domain: str, count: int, before: str = "") -> list[Training]:
        """Up to `count` of the domain's, newest first; those before an id, where one is given."""
        found = [t for t in self._all() if t.domain == domain and (not before or t.training_id < before)]
        return sorted(found, key=lambda t: t.training_id, reverse=True)[:count]

    def counts(self) -> Counter[tuple[str, State]]:
        """Trainings by domain and state."""
        return Counter((t.domain, t.state) for t in self._all())

    async def _start(self, settings: TrainSettings, key: str) -> Training:
        async with self._admitting:
            known = self._by_key(settings.domain, key)
            if known is not None:
                same = self._places.applied(known.settings) == self._places.applied(settings)
                return _same_request(known, key, same and key == known.start_key)
            self._admit(settings.domain)
            now = self._clock()
            training_id = await asyncio.to_thread(self._store.fresh_id)
            training = Training(
                training_id=training_id,
                run_directory=str(self._store.run(training_id).directory),
                settings=settings,
                state=State.RUNNING,
                created_ms=now,
                started_ms=now,
                start_key=key,
            )
            attendant = Attendant(training, self._store, self._clock)
            await attendant.begin(training, self._store.create, self._program)
            self._attendants[training.training_id] = attendant
            return attendant.training

    async def _resume(self, domain: str, training_id: str, key: str) -> Training:
        async with self._admitting:
            attendant = self._attendant(domain, training_id)
            known = self._by_key(domain, key)
            if known is not None:
                return _same_request(known, key, known == attendant.training and key in known.resume_keys)
            self._admit(domain)
            before = attendant.training
            if before.state is State.SUCCEEDED:
                raise WrongState(f"training {training_id} has succeeded: there is nothing to resume")
            training = replace(
                before,
                settings=self._places.applied(before.settings),
                state=State.RUNNING,
                started_ms=self._clock(),
                ended_ms=0,
                stages=(),
                log=(),
                error="",
                settings_refused=False,
                resume_keys=(*before.resume_keys, *([key] if key else [])),
            )
            await attendant.begin(training, self._store.reopen, self._program)
            return attendant.training

    def _admit(self, domain: str) -> None:
        if self._closed:
            raise Unavailable("the training server is stopping")
        alive = [t for t in self._all() if t.alive]
        running = next((t for t in alive if t.domain == domain), None)
        if running is not None:
            raise WrongState(
                f"domain {domain!r} trains already: {running.training_id} is {running.state.name.lower()}",
                metadata={"training_id": running.training_id},
            )
        if len(alive) >= self._limits.max_running:
            raise Overloaded(
                f"trainings running must be at most {self._limits.max_running} (max_running), got one more"
            )

    def _all(self) -> list[Training]:
        return [attendant.training for attendant in self._attendants.values()]

    def _attendant(self, domain: str, training_id: str) -> Attendant:
        attendant = self._attendants.get(training_id)
        if attendant is None or attendant.training.domain != domain:
            raise NotFound(f"domain {domain!r} has no training {training_id!r}")
        return attendant

    def _by_key(self, domain: str, key: str) -> Training | None:
        """The training that an earlier request of this key started or resumed."""
        mine = (t for t in self._all() if t.domain == domain)
        return next((t for t in mine if key and key in (t.start_key, *t.resume_keys)), None)

    async def _unbroken(self, start: Coroutine[Any, Any, Training]) -> Training:
        """Half a start would be worse than one whose caller has gone."""
        task = asyncio.create_task(start)
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)
        return await asyncio.shield(task)

    async def _hold(self) -> None:
        runs = Dependency("the directory of the runs", str(self._store.root), "WARMSTART_TRAINING_RUNS")
        wait = Wait(runs, self._limits.hold_s)
        while holder := await asyncio.to_thread(self._store.try_hold):
            if wait.is_over:
                raise SettingsError(
                    f"runs must be this server's alone, got {self._store.root}, which {holder} holds: stop "
                    f"that one, or set {runs.setting} to another directory"
                )
            wait.note(f"{holder} holds it")
            await asyncio.sleep(_TRY_AGAIN_S)
        wait.found()


def _same_request(known: Training, key: str, same: bool) -> Training:
    if not same:
        rule = f"must be new: it was used for something else, training {known.training_id}"
        raise InvalidInput.of("request_key", rule, key)
    return known
