"""Calls at a steady rate, whether or not those before have been answered: an open loop, as many people are.

A call's time runs from when it was due, so that a server that makes callers wait does not hide it by being
asked less (G. Tene, "How NOT to Measure Latency": coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.errors import WarmstartError
from tests.chaos.backend import Backend, Seen

# What a call is answered that failed in no way known to us.
OK = "OK"
_END_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One call. due: on the clock of `time.monotonic`; seconds: from then to its answer."""

    kind: str
    due: float
    seconds: float
    code: str
    reason: str
    seen: Seen

    @property
    def well(self) -> bool:
        """Answered, and nothing was away."""
        return self.code == OK and not self.seen.degraded and not self.seen.broken


class Load:
    """Calls of several kinds, each at its rate. answers: of all calls, in the order in which they came; late:
    by how many seconds each was sent later than due, which is this process's own doing."""

    def __init__(self, calls: Mapping[str, tuple[float, Callable[[], Awaitable[Seen]]]]) -> None:
        """calls: kind → (a second, what is called)."""
        self.answers: list[Answered] = []
        self.late: list[float] = []
        self._calls = calls
        self._in_work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled; calls that are in work then are still waited for, by `rest`."""
        async with asyncio.TaskGroup() as kinds:
            for kind, (rate, make) in self._calls.items():
                kinds.create_task(self._steadily(kind, 1.0 / rate, make))

    async def rest(self) -> None:
        """Returns once every call has its answer."""
        if self._in_work:
            _, late = await asyncio.wait(self._in_work, timeout=_END_LIMIT_S)
            assert not late, f"{len(late)} calls had no answer {_END_LIMIT_S:g} s after the last one"

    async def _steadily(self, kind: str, pause_s: float, make: Callable[[], Awaitable[Seen]]) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            one = asyncio.create_task(self._one(kind, due, make))
            self._in_work.add(one)
            one.add_done_callback(self._in_work.discard)
            due += pause_s

    async def _one(self, kind: str, due: float, make: Callable[[], Awaitable[Seen]]) -> None:
        code, reason, seen = OK, "", Seen()
        self.late.append(time.monotonic() - due)
        try:
            seen = await make()
        except WarmstartError as error:
            code, reason = error.code, str(error)
        self.answers.append(Answered(kind, due, time.monotonic() - due, code, reason, seen))


@dataclass(frozen=True, slots=True)
class Rates:
    """Calls a second. reads are of three calls each."""

    lists: float = 20.0
    feedback: float = 8.0
    reads: float = 10.0
    look_ups: float = 10.0


@asynccontextmanager
async def under_load(backend: Backend, rates: Rates) -> AsyncIterator[Load]:
    """Loads while the block runs; then returns once every call is answered."""
    load = Load(
        {
            "list": (rates.lists, backend.list),
            "feedback": (rates.feedback, backend.feedback),
            "read": (rates.reads, backend.read),
            "look up": (rates.look_ups, backend.look_up),
        }
    )
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await load.rest()
