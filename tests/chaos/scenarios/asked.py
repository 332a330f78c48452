"""Requests that no server can do right by, beside those that must not suffer from them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from shared.errors import WarmstartError
from tests.chaos import claims
from tests.chaos.claims import Claim
from tests.chaos.load import OK, Load
from tests.chaos.outcome import Outcome
from tests.chaos.world import World

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_DEADLINES_S = (0.0005, 0.001, 0.002, 0.005, 0.01)
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
