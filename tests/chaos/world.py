"""What all scenarios share: the servers under load, before, during and after a fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from shared.artifacts import Registry
from shared.domain import ModelRef
from tests.chaos.backend import Backend
from tests.chaos.load import Load, Rates, under_load
from tests.chaos.outcome import Outcome, Phases, outcome
from tests.chaos.servers import NICE, Servers

# Servers that were just started answer slower for a moment: nothing is measured until then.
_WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard.

    steady_s: of load before a fault, and after it; away_s: how long what was killed stays away; calls: at
    least so many in scenarios that count them; kills: of random ones; turns: of as much as can be done and of
    too much; rates: of the load; nice: of servers, see `servers.Server`; adapted: the share of lists
    that must be so beside bad models; against: the commit that a rollout comes from, "" = see `earlier.py`.
    """

    steady_s: float = 5.0
    away_s: float = 5.0
    calls: int = 20_000
    rolling_calls: int = 50_000
    kills: int = 50
    turns: int = 9
    rates: Rates = field(default_factory=Rates)
    nice: int = NICE
    adapted: float = 1.0
    against: str = ""


class Skipped(Exception):
    """A scenario cannot be played here; the message says why."""


# What `make test` has time for: the same faults, a handful of times. Its servers do not give way to the tests
# that run beside them, which make some lists late all the same; a bad model that served would cost a fifth.
SHORT = Effort(1.0, 1.0, 300, 300, 3, 3, Rates(10.0, 5.0, 5.0, 5.0), nice=0, adapted=0.9)


@dataclass(frozen=True, slots=True)
class Bad:
    """Versions that must never serve, by what is wrong with them; they are not in the registry yet."""

    stock: Registry
    refs: dict[str, ModelRef]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    servers: Servers
    backend: Backend
    registry: Registry
    bad: Bad
    effort: Effort

    async def measured(
        self, scenario: str, fault: Callable[[Load], Awaitable[None]], rates: Rates | None = None
    ) -> Outcome:
        """Steady load; the fault, from when it is made until it is undone; steady load again."""
        async with under_load(self.backend, rates or self.effort.rates) as load:
            await asyncio.sleep(_WARM_UP_S)
            phases = Phases()
            await asyncio.sleep(self.effort.steady_s)
            with phases.during():
                await fault(load)
            # Longer than a recovery may take, so that it is seen to its end.
            await asyncio.sleep(self.effort.steady_s + 2.0)
            phases.ended = time.monotonic()
        await self.backend.settle()
        return outcome(scenario, load.answers, phases, await self.backend.kept())

    def names(self, service: str) -> list[str]:
        return [server.name for server in self.servers.of(service)]

    def logs_say(self, words: str, servers: Sequence[str]) -> bool:
        """Whether the log of each holds the words."""
        return all(words in self.servers[name].log.read_text(errors="replace") for name in servers)
