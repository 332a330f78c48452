"""What is done to the servers, and what must hold. A new scenario is a function and a row in `SCENARIOS`.

killed.py     processes that die: a replica, all of a service, the store, any at random
stopped.py    processes that are told to stop: a rolling restart
stalled.py    processes that hang or are slow
rolled.py     two versions side by side
published.py  models that must not serve
asked.py      requests that are late, skewed, or many
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tests.chaos.claims import Claim
from tests.chaos.outcome import Outcome
from tests.chaos.scenarios import asked, killed, published, rolled, stalled, stopped
from tests.chaos.servers import SERVICES
from tests.chaos.world import World

MODEL_SERVICES = ("adaptation", "scoring")
BEHIND = ("features", *MODEL_SERVICES)


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    about: str
    run: Callable[[World, str], Awaitable[tuple[Outcome, list[Claim]]]]


def _each(
    name: str,
    about: str,
    run: Callable[..., Awaitable[tuple[Outcome, list[Claim]]]],
    services: tuple[str, ...],
) -> list[Scenario]:
    return [
        Scenario(f"{name}-{service}", about.format(service=service), partial(_of, run, service))
        for service in services
    ]


async def _of(
    run: Callable[..., Awaitable[tuple[Outcome, list[Claim]]]], service: str, world: World, name: str
) -> tuple[Outcome, list[Claim]]:
    return await run(world, name, service)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        *_each(
            "kill-replica",
            "one of two replicas of {service} after the other dies by kill -9",
            killed.a_replica,
            SERVICES,
        ),
        *_each("kill-all", "both replicas of {service} die by kill -9 and come back", killed.all_of, BEHIND),
        Scenario("kill-store", "Valkey dies by kill -9 and comes back", killed.the_store),
        Scenario(
            "random-kills", "one process after the other, Valkey too, dies by kill -9", killed.at_random
        ),
        Scenario(
            "rolling-restart", "every server is stopped by SIGTERM and started again", stopped.one_by_one
        ),
        Scenario(
            "rollout",
            "every server goes to an earlier commit (--against) and back, one by one",
            rolled.two_versions,
        ),
        *_each("hang", "one of two replicas of {service} hangs (SIGSTOP)", stalled.a_replica, SERVICES),
        *_each("slow", "{service} runs a fifth of the time", stalled.all_of, BEHIND),
        Scenario("slow-store", "Valkey runs a fifth of the time", stalled.the_store),
        Scenario("full-disk", "Valkey cannot write any more, and later can", stalled.full_disk),
        Scenario(
            "bad-models",
            "models half-written, tampered with and of no numbers become champion",
            published.bad_models,
        ),
        Scenario("clock-skew", "events from the future, the past and no time at all", asked.skewed),
        Scenario("overload", "three times as many lists are asked for as can be made", asked.overload),
        Scenario("expired-deadlines", "callers that wait for a few milliseconds only", asked.impatient),
    )
}
