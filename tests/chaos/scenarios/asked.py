"""Requests that no server can do right by, beside those that must not suffer from them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import numpy as np

from shared.errors import Overloaded, WarmstartError
from tests.chaos import claims
from tests.chaos.backend import Backend
from tests.chaos.claims import Claim
from tests.chaos.load import OK, Answered, Load
from tests.chaos.outcome import Outcome, Phases, outcome
from tests.chaos.world import World

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_DEADLINES_S = (0.0005, 0.001, 0.002, 0.005, 0.01)
_CALLERS = 16
_REST_S = 2.0
# The first of a turn is the servers' to find out.
_SETTLING_S = 1.0
_CODES = {OK, "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}


async def skewed(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """Callers' clocks are wrong: a phone that lives in 2040, one that lives in 1971, one without a clock."""
    backend, answers = world.backend, {}

    async def fault(load: Load) -> None:
        now_ms = int(time.time() * 1000)
        for what, time_ms in (
            ("a little ahead", now_ms + 2 * _MINUTE_MS),
            ("years ahead", now_ms + 5000 * _DAY_MS),
            ("years behind", _DAY_MS * 365),
            ("before 1970", -1),
            ("none", 0),
        ):
            answers[what] = await backend.feedback_at(time_ms)
        await asyncio.sleep(world.effort.away_s)

    found = await world.measured(name, fault)
    stored = {what for what, reason in answers.items() if not reason}
    named = all("time_ms" in answers[what] for what in ("years ahead", "before 1970"))
    return found, [
        claims.nothing_failed(found),
        Claim(
            "a clock that is behind, a little ahead or missing is taken, one that is far off refused by name",
            stored == {"a little ahead", "years behind", "none"} and named,
            "; ".join(f"{what}: {reason or 'stored'}" for what, reason in answers.items()),
        ),
        *claims.kept(found),
    ]


async def impatient(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """Many callers who are gone before their list can be there must not hold up the others."""
    codes: Counter[str] = Counter()

    async def ask(deadline_s: float) -> None:
        try:
            await world.backend.list(timeout_s=deadline_s)
        except WarmstartError as error:
            codes[error.code] += 1
        else:
            codes[OK] += 1

    async def fault(load: Load) -> None:
        until = time.monotonic() + 2.0 * world.effort.away_s
        async with asyncio.TaskGroup() as asking:
            while time.monotonic() < until:
                for deadline_s in _DEADLINES_S:
                    asking.create_task(ask(deadline_s))
                await asyncio.sleep(0.1)

    found = await world.measured(name, fault)
    return found, [
        claims.nothing_failed(found),
        Claim(
            "the impatient are told so",
            set(codes) <= _CODES and codes["DEADLINE_EXCEEDED"] > 0,
            str(dict(codes)),
        ),
        *claims.kept(found),
    ]


async def overload(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """As many lists as the servers make at most, by callers that ask one after the other; then three times as
    many, by callers that wait for nobody, of whom each gives up after a second; and so on in turns, as the
    machine becomes slower and faster meanwhile. A share is of the peaks before and after it; the table is of
    the first turn. All the while callers have a processor of their own."""
    with world.servers.apart():
        return await _overload(world, name)


async def _overload(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    backend, steady_s = world.backend, world.effort.steady_s
    answers: list[Answered] = []
    first = Phases()
    world.servers.give_way()
    peaks = [await _one_after_the_other(backend, steady_s, answers)]
    later: list[Answered] = []
    late_s: list[float] = []
    counted: list[list[Answered]] = []
    for _ in range(world.effort.turns):
        load = Load({"list": (3.0 * peaks[-1], backend.impatient_list)})
        phases = Phases()
        with phases.during():
            running = asyncio.create_task(load.run())
            await asyncio.sleep(steady_s + _SETTLING_S)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await load.rest()
        late_s += load.late
        counted.append([a for a in load.answers if a.due >= phases.fault + _SETTLING_S])
        await asyncio.sleep(_REST_S)
        if len(counted) == 1:
            answers += load.answers
            first.fault, first.over, first.ended = phases.fault, phases.over, time.monotonic()
        else:
            later += load.answers
        peaks.append(await _one_after_the_other(backend, steady_s, later))
    found = outcome(name, answers, first, await backend.kept())
    broken = [*found.broken, *(a.seen.broken for a in later if a.seen.broken)]
    goodputs = [sum(a.code == OK for a in one) / steady_s for one in counted]
    shares = [2.0 * g / (p + q) for g, p, q in zip(goodputs, peaks, peaks[1:], strict=False)]
    every = [a for one in counted for a in one]
    good = [a for a in every if a.code == OK]
    refused = [1000.0 * a.seconds for a in every if a.code == Overloaded.code]
    late = len(every) - len(good) - len(refused)
    return found, [
        Claim(
            "at three times the peak at least 85% of it is answered in time",
            float(np.median(shares)) >= 0.85,
            f"{np.median(goodputs):.1f} lists a second of {np.median(peaks):.1f}; in turns "
            f"{', '.join(f'{s:.0%}' for s in shares)}; {len(refused)} refused",
        ),
        Claim(
            "what is taken on is answered within the deadline",
            late <= 0.001 * len(good),
            f"{late} late beside {len(good)}, {_times([1000.0 * a.seconds for a in good])}",
        ),
        Claim(
            "who is refused is told so at once",
            bool(refused) and float(np.median(refused)) < 10.0,
            f"{len(refused)} refused, {_times(refused)}",
        ),
        Claim(
            "the caller itself is not what is too slow",
            float(np.median(late_s)) < 0.005,
            f"calls were sent late by {_times([1000.0 * s for s in late_s])}",
        ),
        Claim("answers are whole", not broken, "; ".join(broken[:3]) or "all"),
    ]


def _times(ms: list[float]) -> str:
    p50, p99 = np.percentile(ms or [np.nan], [50, 99])
    return f"median {p50:.1f} ms, p99 {p99:.1f} ms"


async def _one_after_the_other(backend: Backend, seconds: float, answers: list[Answered]) -> float:
    """Lists a second by callers who each wait for their answer."""
    until, already = time.monotonic() + seconds, len(answers)

    async def ask() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                seen = await backend.list()
            except Overloaded:
                continue  # with so many callers the servers may already be asked for a little too much
            answers.append(Answered("list", began, time.monotonic() - began, OK, "", seen))

    async with asyncio.TaskGroup() as callers:
        for _ in range(_CALLERS):
            callers.create_task(ask())
    return (len(answers) - already) / seconds
