"""Processes that die by kill -9."""

from __future__ import annotations

import asyncio
import random
from itertools import cycle

from tests.chaos import claims
from tests.chaos.claims import Claim
from tests.chaos.load import Load, Rates
from tests.chaos.outcome import Outcome
from tests.chaos.servers import STORE
from tests.chaos.world import World

_LEFT_ALONE_S = 1.0
# More reads than lists: many calls are wanted, and a list costs as much as several.
_READS = Rates(lists=10.0, feedback=4.0, reads=25.0, look_ups=60.0)
_WRITES = Rates(lists=10.0, feedback=25.0, reads=5.0, look_ups=5.0)


async def a_replica(world: World, name: str, service: str) -> tuple[Outcome, list[Claim]]:
    """One replica dies and comes back, then the other, until there were enough calls."""

    async def fault(load: Load) -> None:
        for victim in cycle(world.names(service)):
            await world.servers.kill(victim)
            await asyncio.sleep(world.effort.away_s)
            await world.servers.start(victim)
            await asyncio.sleep(_LEFT_ALONE_S)
            if len(load.answers) >= world.effort.calls / 4:
                return

    rates = _READS if world.effort.calls > 1000 else None
    found = await world.measured(name, fault, rates)
    return found, [
        claims.none_failed(found, world.effort.calls // 4),
        claims.answered(found, 1.0),
        *claims.kept(found),
    ]


async def all_of(world: World, name: str, service: str) -> tuple[Outcome, list[Claim]]:
    async def fault(load: Load) -> None:
        await world.servers.kill(*world.names(service))
        await asyncio.sleep(world.effort.away_s)
        await world.servers.start(*world.names(service))

    found = await world.measured(name, fault)
    return found, [claims.answered(found), claims.recovered(found), *claims.kept(found)]


async def the_store(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    async def fault(load: Load) -> None:
        await world.servers.kill(STORE)
        await asyncio.sleep(world.effort.away_s)
        await world.servers.start(STORE)

    found = await world.measured(name, fault)
    return found, [claims.answered(found), claims.recovered(found), *claims.kept(found)]


async def at_random(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """Any process, also several at a time: each dies at a moment of its own and is started again at once, as
    a supervisor does."""
    rng = random.Random(world.effort.kills)
    victims = [server for server in world.servers.all if not server.startswith("gateway")]

    async def fault(load: Load) -> None:
        for _ in range(world.effort.kills):
            victim = rng.choice(victims)
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            await world.servers.kill(victim)
            world.servers[victim].start()
            if rng.random() < 0.5:
                await world.servers.serving(victim)
        for victim in victims:
            await world.servers.serving(victim)

    found = await world.measured(name, fault, _WRITES)
    return found, [claims.answered(found), *claims.kept(found)]
