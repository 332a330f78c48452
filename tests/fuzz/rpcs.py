"""Cases sent to the real servers, many in flight, each answer judged."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import Message

from tests.fuzz.calls import ask
from tests.fuzz.mutation import Mutator
from tests.fuzz.oracle import HANG, OK, Answer, decoded, problem_of
from tests.fuzz.schema import Rpc, all_rpcs
from tests.fuzz.seeds import known_names, seeds_of
from tests.fuzz.tally import ACCEPTED, Finding, Tally
from tests.fuzz.values import Known
from tests.fuzz.world import Memory, World, open_world, restock

IN_FLIGHT = 32
# The servers themselves are looked at after so many cases.
_ROUND = 4000
_STATE = "servers"
# Of these, each case costs what hundreds of others do.
_HEAVY = {
    "StartTraining": 0.25,
    "PromoteModel": 0.1,
    "RollBackModel": 0.1,
    "ExportEvents": 0.25,
    "WatchItems": 0.5,
}
# What later cases may name, by where it stands in answers.
_HARVEST = {
    "next_page_token": "page_token",
    "cursor": "cursor",
    "training_id": "training_id",
    "event_id": "event_id",
}


class RpcFuzzer:
    """Sends cases to one world. told: is called after each with the number of cases so far."""

    def __init__(self, world: World, seed: int, told: Callable[[int], None] = lambda done: None) -> None:
        self._world, self._seed, self._told = world, seed, told
        self._known: Known = known_names()
        world.know(self._known)
        self.tallies = {rpc.name: Tally(rpc.name, is_rpc=True) for rpc in all_rpcs()}
        self.state = Tally(_STATE, is_rpc=True)
        self._seeds = {rpc.name: seeds_of(rpc, world.output_dim) for rpc in all_rpcs()}
        self._made: dict[str, int] = dict.fromkeys(self._seeds, 0)
        self.cases = 0

    @property
    def memory(self) -> dict[str, Memory]:
        return self._world.memory

    async def run(self, rpcs: Sequence[Rpc], cases: int, until: float | None = None) -> None:
        """So many cases over these RPCs, or until a moment of the monotonic clock, in rounds."""
        while cases > 0 and (until is None or time.monotonic() < until):
            count = min(cases, _ROUND)
            await self._round(rpcs, count, until)
            cases -= count

    async def send(self, rpc: Rpc, case: bytes) -> str:
        """One case; what is wrong with its answer."""
        answer = await ask(self._world.channels[rpc.server], rpc, case)
        problem = problem_of(rpc, case, answer)
        tally = self.tallies[rpc.name]
        tally.note(ACCEPTED if answer.code == OK else answer.code, answer.seconds)
        if problem:
            tally.found(Finding(rpc.name, problem, case, is_hang=answer.code == HANG))
        self._harvest(rpc, answer)
        return problem

    async def look(self) -> list[str]:
        """At the servers: what is wrong with them now."""
        problems = await self._world.problems()
        for problem in problems:
            self.state.found(Finding(_STATE, problem, b""))
        return problems

    async def _round(self, rpcs: Sequence[Rpc], count: int, until: float | None) -> None:
        began = time.monotonic()
        todo = self._cases(rpcs, count)

        async def work() -> None:
            for rpc, case in todo:
                if until is not None and time.monotonic() > until:
                    return
                await self.send(rpc, case)
                self.cases += 1
                self._told(self.cases)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        self.state.seconds += time.monotonic() - began
        await restock(self._world.channels["gateway"])
        await self.look()

    def _cases(self, rpcs: Sequence[Rpc], count: int) -> Iterator[tuple[Rpc, bytes]]:
        """RPCs take turns, heavy ones not each time."""
        order = Random(self._seed + self.cases)
        made = 0
        for rpc in itertools.cycle(rpcs):
            if made >= count:
                return
            if len(rpcs) > 1 and order.random() > _HEAVY.get(rpc.method, 1.0):
                continue
            made += 1
            yield rpc, self._case(rpc)

    def _case(self, rpc: Rpc) -> bytes:
        number = self._made[rpc.name]
        self._made[rpc.name] += 1
        rng = Random(f"{self._seed}/{rpc.name}/{number}")
        return Mutator(rng, self._known).case(self._seeds[rpc.name])

    def _harvest(self, rpc: Rpc, answer: Answer) -> None:
        for data in answer.responses[-1:]:
            response = decoded(rpc.response, data)
            if response is None:
                continue
            for source in (response, *_first_of(response)):
                for name, kept in _HARVEST.items():
                    if name in source.DESCRIPTOR.fields_by_name:
                        value = getattr(source, name)
                        self._known.add(kept, value)
                        if kept == "training_id":
                            self._known.add("resume", value)


def _first_of(response: Message) -> Iterator[Any]:
    """The first message in each of its fields."""
    for field, value in response.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield value[0] if field.is_repeated else value


@asynccontextmanager
async def open_fuzzer(
    directory: Path, seed: int, told: Callable[[int], None] = lambda done: None
) -> AsyncIterator[RpcFuzzer]:
    async with open_world(directory) as world:
        yield RpcFuzzer(world, seed, told)
