"""How long Recommend takes, as a caller sees it, and an empty call beside it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
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


@dataclass(frozen=True, slots=True)
class EmptyCalls:
    """`callers` calling a method that does nothing, one after the other: what gRPC alone takes here. By it,
    figures of different machines and days compare."""

    callers: int
    requests_a_second: float
    p50_ms: float


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

    async def ask(turn: int) -> None:
        await _ask_once(client, people[turn % len(people)], page_size, seen)

    return _report(seen, callers, await _closed_loop(ask, callers, seconds))


async def measure_empty_calls(client: GatewayClient, *, callers: int, seconds: float) -> EmptyCalls:
    """The gateway's health check in the same closed loop. Raises where one fails."""
    took: list[float] = []

    async def ask(turn: int) -> None:
        sent = time.perf_counter()
        await client.check_health()
        took.append(time.perf_counter() - sent)

    took_s = await _closed_loop(ask, callers, seconds)
    return EmptyCalls(callers, len(took) / took_s, float(np.median(took)) * 1000.0)


async def _closed_loop(ask: Callable[[int], Awaitable[None]], callers: int, seconds: float) -> float:
    """Each caller asks anew when it has its answer, the n-th with turns n, n + callers, …; how long it
    took, in seconds."""
    started = time.monotonic()
    until = started + seconds

    async def one(first: int) -> None:
        turn = first
        while time.monotonic() < until:
            await ask(turn)
            turn += callers

    await all_or_none(one(n) for n in range(callers))
    return time.monotonic() - started


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
