"""Processes that hang, are slow, or have no room left."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos import claims
from tests.chaos.claims import Claim
from tests.chaos.load import Load
from tests.chaos.outcome import Outcome
from tests.chaos.servers import STORE
from tests.chaos.world import World

_SLOW_STOPPED_S, _SLOW_RUNNING_S = 0.2, 0.05


async def a_replica(world: World, name: str, service: str) -> tuple[Outcome, list[Claim]]:
    """Its connections stay open and nothing comes back on them."""

    async def fault(load: Load) -> None:
        victim = world.servers[world.names(service)[0]]
        victim.send(signal.SIGSTOP)
        await asyncio.sleep(2.0 * world.effort.away_s)
        victim.send(signal.SIGCONT)

    found = await world.measured(name, fault)
    # A gateway that hangs makes its callers wait until their channels give it up; the others' callers are it.
    lists = [] if service == "gateway" else [claims.answered(found)]
    return found, [claims.got_over(found), *lists, claims.recovered(found), *claims.kept(found)]


async def all_of(world: World, name: str, service: str) -> tuple[Outcome, list[Claim]]:
    async def fault(load: Load) -> None:
        async with _slow(world, world.names(service)):
            await asyncio.sleep(2.0 * world.effort.away_s)

    found = await world.measured(name, fault)
    return found, [claims.answered(found), claims.recovered(found), *claims.kept(found)]


async def the_store(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    async def fault(load: Load) -> None:
        async with _slow(world, [STORE]):
            await asyncio.sleep(2.0 * world.effort.away_s)

    found = await world.measured(name, fault)
    return found, [claims.answered(found), claims.recovered(found), *claims.kept(found)]


async def full_disk(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """Its files may not grow: writes fail as on a full disk, and Valkey, which must not acknowledge what it
    cannot sync, ends; it is started again as a supervisor would, and ends at the next write again."""
    store = world.servers[STORE]

    async def fault(load: Load) -> None:
        size = _largest_file(store.log.parent / STORE)
        resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        until = asyncio.get_running_loop().time() + 2.0 * world.effort.away_s
        while asyncio.get_running_loop().time() < until:
            if store.process is not None and store.process.poll() is not None:
                store.process = None
                store.start()
                resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            await asyncio.sleep(0.1)
        if store.process is not None and store.process.poll() is not None:
            store.process = None
            store.start()
        else:
            resource.prlimit(
                store.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        await world.servers.serving(STORE)

    found = await world.measured(name, fault)
    return found, [claims.answered(found), claims.recovered(found), *claims.kept(found)]


@asynccontextmanager
async def _slow(world: World, names: Sequence[str]) -> AsyncIterator[None]:
    """Stopped four fifths of the time, all of them together."""

    async def stutter() -> None:
        while True:
            for number, seconds in ((signal.SIGSTOP, _SLOW_STOPPED_S), (signal.SIGCONT, _SLOW_RUNNING_S)):
                for name in names:
                    world.servers[name].send(number)
                await asyncio.sleep(seconds)

    stuttering = asyncio.create_task(stutter())
    try:
        yield
    finally:
        stuttering.cancel()
        await asyncio.gather(stuttering, return_exceptions=True)
        for name in names:
            world.servers[name].send(signal.SIGCONT)


def _largest_file(directory: Path) -> int:
    return max(file.stat().st_size for file in directory.rglob("*") if file.is_file())
