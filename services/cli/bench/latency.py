"""How long Recommend takes, as a caller sees it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.concurrency import all_or_none
from shared.errors import WarmstartError


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """One phase: `callers` asking one after the other, each for `page_size` items of the whole catalogue."""

    callers: int
    requests: int
    errors: int
    degraded: int
    requests_a_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stages_p50_ms: dict[str, float]


@dataclass(slots=True)
class _Seen:
    """What the callers of one phase saw."""

    seconds: list[float]
    stages: dict[str, list[int]]
    outcomes: Counter[str]


async def measure_latency(
    client: GatewayClient, people: Sequence[str], *, callers: int, seconds: float, page_size: int = 10
) -> LatencyReport:
    """Asks for `seconds`, closed loop: each caller sends its next request when it has its answer."""
    seen = _Seen([], {}, Counter())
    started = time.monotonic()
    until = started + seconds

    async def ask(first: int) -> None:
        turn = first
        while time.monotonic() < until:
            await _ask_once(client, people[turn % len(people)], page_size, seen)
            turn += callers

    await all_or_none(ask(n) for n in range(callers))
    return _report(seen, callers, time.monotonic() - started)


async def _ask_once(client: GatewayClient, user_id: str, page_size: int, seen: _Seen) -> None:
    request = pb.RecommendRequest(user_id=user_id, page_size=page_size)
    sent = time.perf_counter()
    try:
        response = await client.recommend(request)
    except WarmstartError:
        seen.outcomes["error"] += 1
        return
    seen.seconds.append(time.perf_counter() - sent)
    seen.outcomes["degraded"] += bool(response.degradations)
    for timing in response.timings:
        seen.stages.setdefault(timing.stage, []).append(timing.micros)


def _report(seen: _Seen, callers: int, took_s: float) -> LatencyReport:
    p50, p95, p99 = np.percentile(np.array(seen.seconds or [np.nan]) * 1000.0, [50, 95, 99])
    return LatencyReport(
        callers=callers,
        requests=len(seen.seconds),
        errors=seen.outcomes["error"],
        degraded=seen.outcomes["degraded"],
        requests_a_second=len(seen.seconds) / took_s,
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        stages_p50_ms={name: float(np.median(micros)) / 1000.0 for name, micros in seen.stages.items()},
    )
