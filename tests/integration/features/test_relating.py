"""Relations while servers stall or die between any two round trips to the store, and others go on."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from services.features.domain import DomainFeatures
from services.features.store import locks, relations
from services.features.store.held import HeldReader
from services.features.store.lifecycle import Lifecycle
from services.features.store.people import PersonStatus
from shared.domain import Action, Event, Relation
from shared.errors import Contended, WrongState
from tests.integration.features.alone import a_domain
from tests.integration.features.client import until
from tests.integration.features.deaths import Died, Muddle, Strikes, dies
from tests.valkey import RunningValkey

_SETTLED_MS = 1001
_NAMES = ("ann", "bob", "dora")
# What was before, what the slow server does, and what another does meanwhile. "half": its server dies before
# it cleans up, and who relates these people then has to come again.
_CASES = [
    (before, doing, meanwhile)
    for pair in ("bob ann", "ann bob")
    for before, doing, meanwhile in (
        ("", f"relate {pair}", "fold ann dora"),
        ("", f"relate {pair}", f"erase ann; relate {pair}"),
        ("", f"relate {pair}", f"erase bob; relate {pair}"),
        ("", f"relate {pair}", f"relate {pair}; erase ann; relate {pair}"),
        ("", f"relate {pair}", f"unrelate {pair}; erase bob; relate {pair}"),
        ("", f"unrelate {pair}", f"erase ann; relate {pair}"),
        ("half-erase ann", f"relate {pair}", "repair"),
        ("half-fold ann dora", f"relate {pair}", "repair"),
        ("", "erase ann", f"repair; relate {pair}"),
        ("", "fold ann dora", f"repair; relate {pair}"),
        ("half-erase ann", "repair", f"relate {pair}"),
        ("half-fold ann dora", "repair", f"relate {pair}"),
        ("half-erase ann", "repair", f"repair; relate {pair}"),
        ("half-fold ann dora", "repair", f"repair; relate {pair}"),
        (f"half-erase ann; relate {pair}", "repair", f"relate {pair}"),
        (f"half-fold ann dora; relate {pair}", "repair", f"relate {pair}"),
        (f"half-fold ann dora; relate {pair}", "repair", f"repair; relate {pair}; erase bob; relate {pair}"),
    )
]


class _Town:
    """Ann, bob and dora, others each time; ann likes something, and bob and she are related, both ways. `now`
    is what all servers take for the time; stored: pairs that were acknowledged as related."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.now, self._number, self.stored = time.time_ns() // 1_000_000, 0, set[tuple[str, str]]()

    def clock(self) -> int:
        return self.now

    def _id(self, name: str) -> str:
        return f"{name}-{self._number}"

    async def begin(self, server: DomainFeatures, number: int) -> None:
        self._number = number
        self.now += 10_000
        await server.record([Event(self._id("ann"), "a", Action.LIKE, 0.0, self.now - 5, f"like {number}")])
        await self.does(server, "relate ann bob; relate bob ann")
        self.stored = set()

    async def does(self, server: DomainFeatures, deeds: str) -> None:
        for deed in filter(None, deeds.split("; ")):
            verb, *names = deed.split()
            self.now += 10
            await self._does(server, verb, *names)

    async def _does(self, server: DomainFeatures, verb: str, *names: str) -> None:
        ids = [self._id(name) for name in names]
        match verb.removeprefix("half-"):
            case "repair":
                await server.lifecycle.repair(now_ms=self.now)
            case "relate" | "unrelate":
                relation = Relation(*ids, time_ms=self.now, removed=verb == "unrelate")
                with suppress(Contended):
                    if await server.relate([relation]) == [PersonStatus.STORED]:
                        self.stored |= {(names[0], names[1])}
            case "erase" | "fold" if verb.startswith("half-"):
                with self._monkeypatch.context() as patch:
                    patch.setattr(Lifecycle, "_clean", dies)
                    with suppress(Died):
                        await self._does(server, verb.removeprefix("half-"), *names)
            case "erase":
                self.stored -= {pair for pair in self.stored if names[0] in pair}
                await server.erase(*ids)
            case "fold":
                with suppress(Contended, WrongState):  # another is at it; the target was erased
                    await server.fold(*ids)

    async def is_at_rest(self, server: DomainFeatures) -> bool:
        """Whether upkeep, a while later, finds nothing left to do."""
        self.now += _SETTLED_MS
        return await server.lifecycle.repair(now_ms=self.now) == 0

    async def sides(self, server: DomainFeatures) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Who is related to whom, as their own side has it and as the other's has."""
        reader, own, others = HeldReader(server.store, server.keys), set(), set()
        for name in _NAMES:
            held = await reader.read(self._id(name))
            own |= {(name, r.other_user_id.partition("-")[0]) for r in held.relations}
            others |= {(owner.partition("-")[0], name) for _, owner in held.followers}
        return own, others


@pytest.mark.parametrize(
    "then_dies",
    # The short form is the test of three servers below, of which some die.
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["goes on", "dies"],
)
@pytest.mark.parametrize(("before", "doing", "meanwhile"), _CASES)
async def test_whatever_others_do_between_two_round_trips_a_relation_has_both_sides_or_none(
    session_valkey: RunningValkey,
    domain: str,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    doing: str,
    meanwhile: str,
    then_dies: bool,
) -> None:
    """A server stalls before its first round trip, after one, after two … while another does all of its work,
    and then goes on with what it has found out, or dies. What was acknowledged is there in the end."""
    monkeypatch.setattr(relations, "_PAUSES_S", (0.0,))
    town = _Town(monkeypatch)
    async with (
        a_domain(session_valkey, domain, town.clock) as slow,
        a_domain(session_valkey, domain, town.clock) as other,
    ):

        async def stalls() -> None:
            await town.does(other, meanwhile)
            if then_dies:
                raise Died

        strikes = Strikes(monkeypatch, stalls)
        for number in strikes:
            await town.begin(slow, number)
            await town.does(other, before)
            await strikes.strike(number, town.does(slow, doing))
            stored = set() if number == 0 and doing.startswith("erase") else town.stored
            for _ in range(3):
                await town.is_at_rest(other)
            assert await town.is_at_rest(other)
            own, others = await town.sides(slow)
            assert own == others, f"stalled after {number}"
            for owner, one in stored:
                merged = (owner.replace("ann", "dora"), one.replace("ann", "dora"))
                assert {(owner, one), merged} & own, f"stalled after {number}: {own}"
    assert number >= 2


async def test_who_is_merged_while_they_are_related_does_not_come_back(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their relation is the other's by then; it is not written once more under the old id."""
    town = _Town(monkeypatch)
    async with (
        a_domain(session_valkey, domain, town.clock) as slow,
        a_domain(session_valkey, domain, town.clock) as other,
    ):
        strikes = Strikes(monkeypatch, partial(town.does, other, "fold ann dora"))
        for number in strikes:
            await town.begin(slow, number)
            await strikes.strike(number, town.does(slow, "relate ann bob"))
            if number and not strikes.is_survived:
                own, others = await town.sides(slow)
                assert own == others == {("dora", "bob"), ("bob", "dora")}, f"stalled after {number}"
    assert number >= 3


async def test_many_who_write_relations_of_one_person_at_once_do_not_hold_one_another_up(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "_PAUSES_S", ())
    async with (
        a_domain(session_valkey, domain, lambda: 1) as first,
        a_domain(session_valkey, domain, lambda: 1) as second,
    ):
        for pairs in ([("star", f"fan {n}") for n in range(150)], [(f"fan {n}", "star") for n in range(150)]):
            done = await asyncio.gather(
                *[
                    server.relate([Relation(*pair, time_ms=1)])
                    for server, pair in zip(itertools.cycle((first, second)), pairs)
                ]
            )
            assert done == [[PersonStatus.STORED]] * 150


@pytest.mark.parametrize("merged", [False, True], ids=["erased", "merged"])
async def test_who_is_related_to_somebody_that_is_written_to_without_a_pause_goes_at_once(
    session_valkey: RunningValkey, domain: str, merged: bool
) -> None:
    """An import of the other's relations has to wait a moment, in the end."""
    now, going = time.time_ns() // 1_000_000, True
    async with (
        a_domain(session_valkey, domain, lambda: now) as features,
        a_domain(session_valkey, domain, lambda: now) as other,
    ):

        async def imports() -> None:
            for number in itertools.count():
                if not going:
                    break
                assert await other.relate([Relation("star", f"to {number}", time_ms=now)]) == [
                    PersonStatus.STORED
                ]

        importing = asyncio.create_task(imports())
        for number in range(5):
            ann, dora = f"ann {number}", f"dora {number}"
            await features.relate([Relation("star", ann, time_ms=now - 1)])
            await (features.fold(ann, dora) if merged else features.erase(ann))
            names = {
                r.other_user_id
                for r in (await HeldReader(features.store, features.keys).read("star")).relations
            }
            assert (ann in names, dora in names) == (False, merged)
        going = False
        await importing
        assert await features.lifecycle.repair(now_ms=now + _SETTLED_MS) == 0


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
async def test_whatever_three_servers_do_at_once_and_whichever_dies_relations_have_both_sides_or_none(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(relations, "_PAUSES_S", (0.0, 0.01, 0.03))
    monkeypatch.setattr(locks, "_KEPT_MS", 400)
    seed = random.randrange(10**6)
    chance, town = random.Random(seed), _Town(monkeypatch)
    muddle = Muddle(monkeypatch, chance)

    async with (
        a_domain(session_valkey, domain, town.clock) as first,
        a_domain(session_valkey, domain, town.clock) as second,
        a_domain(session_valkey, domain, town.clock) as third,
    ):

        def deed() -> Callable[[], Coroutine[Any, Any, None]]:
            verb = chance.choice((*("relate",) * 4, "unrelate", "repair", "repair", "erase", "fold"))
            names = chance.sample(_NAMES, {"repair": 0, "erase": 1}.get(verb, 2))
            return partial(town.does, chance.choice((first, second, third)), " ".join((verb, *names)))

        for number in range(rounds):
            await town.begin(first, number)
            await muddle.of([deed() for _ in range(chance.randint(3, 8))])
            await until(lambda: town.is_at_rest(first), says="that nothing is left to do")
            own, others = await town.sides(first)
            assert own == others, f"{seed=}, round {number}"
