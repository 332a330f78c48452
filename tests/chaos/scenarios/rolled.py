"""Servers of two versions side by side, as a rollout and a rollback have them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from tests.chaos import claims
from tests.chaos.claims import Claim
from tests.chaos.earlier import Earlier, NoHistory, unpack_earlier
from tests.chaos.load import Load, Rates
from tests.chaos.outcome import Outcome
from tests.chaos.servers import SERVICES
from tests.chaos.world import Skipped, World

_MIXED_S = 1.0
_MANY = Rates(lists=10.0, feedback=5.0, reads=10.0, look_ups=20.0)


async def two_versions(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """Everything rolls to an earlier commit and back, one server at a time, features first and the gateways
    last: so each service calls, and is called by, both versions of every other, on one store and registry."""
    earlier = await asyncio.to_thread(_unpacked, world)
    homes: dict[str, list[str]] = {}
    names = [server for service in SERVICES for server in world.names(service)]

    async def fault(load: Load) -> None:
        for home in (earlier, None):
            for server in names:
                await world.servers.stop(server)
                world.servers[server].earlier = home
                await world.servers.start(server)
                homes.setdefault(server, []).append(psutil.Process(world.servers[server].pid).cwd())
                await asyncio.sleep(_MIXED_S)

    try:
        found = await world.measured(name, fault, _MANY)
    finally:
        for server in names:
            world.servers[server].earlier = None
    return found, [
        claims.nothing_failed(found),
        claims.answered(found, 1.0),
        Claim(
            "every server ran as of the earlier commit and as of now",
            _both(homes.values(), earlier.home, len(names)),
            f"{len(homes)} servers, against {earlier.commit}",
        ),
        *claims.kept(found),
    ]


def _unpacked(world: World) -> Earlier:
    home = world.servers.directory / "earlier"
    try:
        return unpack_earlier(home, world.effort.against)
    except NoHistory as error:
        raise Skipped(str(error)) from error


def _both(homes: Iterable[Sequence[str]], earlier: Path, servers: int) -> bool:
    seen = list(homes)
    return len(seen) == servers and all(
        Path(then) == earlier.resolve() and Path(now) != earlier.resolve() for then, now in seen
    )
