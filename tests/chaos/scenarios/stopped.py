"""Processes that are told to stop, as a deploy does."""

from __future__ import annotations

from tests.chaos import claims
from tests.chaos.claims import Claim
from tests.chaos.load import Load, Rates
from tests.chaos.outcome import Outcome
from tests.chaos.servers import SERVICES
from tests.chaos.world import World

_MANY = Rates(lists=10.0, feedback=4.0, reads=25.0, look_ups=80.0)


async def one_by_one(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """SIGTERM, started again, and the next once it serves; round and round until there were enough calls."""

    async def fault(load: Load) -> None:
        while True:
            for service in SERVICES:
                for server in world.names(service):
                    await world.servers.stop(server)
                    await world.servers.start(server)
                    if len(load.answers) >= world.effort.rolling_calls:
                        return

    rates = _MANY if world.effort.rolling_calls > 1000 else None
    found = await world.measured(name, fault, rates)
    return found, [claims.nothing_failed(found, world.effort.rolling_calls), *claims.kept(found)]
