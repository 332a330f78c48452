"""Does the very next list reflect the feedback just acknowledged? Asked again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.concurrency import all_or_none
from services.cli.failures import CommandError
from shared.domain import Action, Event

# Few enough for every artifact's history length, so that shots_used must count each of them.
LIKES_A_PERSON = 5


@dataclass(frozen=True, slots=True)
class StalenessReport:
    """`stale`: next lists that held the liked item or had not counted the like. `degraded` lists, whose model
    did not take part, are held to the first rule alone."""

    checks: int
    stale: int
    degraded: int
    feedback_to_list_p50_ms: float
    feedback_to_list_p99_ms: float
    reasons: dict[str, int] = field(default_factory=dict)


def people_needed(checks: int) -> int:
    """Each is asked LIKES_A_PERSON times."""
    return -(-checks // LIKES_A_PERSON)


async def measure_staleness(
    client: GatewayClient, people: Sequence[str], *, checks: int, callers: int
) -> StalenessReport:
    """Each person likes the first item of their list, then asks again; `callers` people at once."""
    waiting = list(people)
    todo = [min(LIKES_A_PERSON, checks - n * LIKES_A_PERSON) for n in range(len(people))]
    seconds: list[float] = []
    outcomes: Counter[str] = Counter()

    async def work() -> None:
        while waiting:
            at = len(waiting) - 1
            await _live_through(client, waiting.pop(), todo[at], seconds, outcomes)

    await all_or_none(work() for _ in range(callers))
    degraded = outcomes.pop("degraded", 0)
    p50, p99 = np.percentile(np.array(seconds or [np.nan]) * 1000.0, [50, 99])
    return StalenessReport(
        checks=len(seconds),
        stale=sum(outcomes.values()),
        degraded=degraded,
        feedback_to_list_p50_ms=float(p50),
        feedback_to_list_p99_ms=float(p99),
        reasons=dict(outcomes),
    )


async def _live_through(
    client: GatewayClient, user_id: str, likes: int, seconds: list[float], outcomes: Counter[str]
) -> None:
    shown = await client.recommend(pb.RecommendRequest(user_id=user_id))
    for number in range(1, likes + 1):
        if not shown.items:
            raise CommandError(
                "the list is empty: import items first, for example `warmstart import --dataset …`"
            )
        liked = shown.items[0].item_id
        sent = time.perf_counter()
        result = (await client.record([Event(user_id, liked, Action.LIKE, 0.0, 0, f"bench-{number}")]))[0]
        if result.status != pb.FEEDBACK_STATUS_RECORDED:
            raise CommandError(f"feedback was not stored: {result.reason or result}")
        shown = await client.recommend(pb.RecommendRequest(user_id=user_id))
        seconds.append(time.perf_counter() - sent)
        if any(item.item_id == liked for item in shown.items):
            outcomes["the liked item is still in the list"] += 1
        elif shown.rung != pb.RUNG_ADAPTED:
            outcomes["degraded"] += 1
        elif shown.shots_used != number:
            outcomes["the like is not counted in shots_used"] += 1
