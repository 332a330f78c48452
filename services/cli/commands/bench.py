"""`warmstart bench`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from services.cli import options, output
from services.cli.bench.latency import EmptyCalls, LatencyReport, measure_empty_calls, measure_latency
from services.cli.bench.people import like_some, throw_away_people
from services.cli.bench.staleness import StalenessReport, measure_staleness, people_needed
from services.cli.clients import GatewayClient, open_gateway
from services.cli.failures import CommandError
from services.cli.target import gateway_target

EXAMPLES = options.examples("warmstart bench", "warmstart bench --callers 32 --seconds 20 --json")
_PEOPLE = 50
_LIKES = 10
_WARM_UP_S = 1.0
_EMPTY_S = 2.0
_CATALOGUE_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class BenchReport:
    target: str
    items: int
    latency: tuple[LatencyReport, ...]
    empty: tuple[EmptyCalls, ...]
    staleness: StalenessReport


def bench(
    callers: Annotated[int, typer.Option(help="Callers of the second phase.", min=1, max=1000)] = 16,
    seconds: Annotated[float, typer.Option(help="Seconds of each phase.", min=0.1)] = 10.0,
    checks: Annotated[int, typer.Option(help="How often feedback is followed by a list.", min=1)] = 1000,
    max_p50_ms: Annotated[
        float, typer.Option(help="Fail where one caller's median is longer; 0 = no limit.", min=0.0)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Chooses the throw-away people's likes.")] = 0,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Measure a running cluster: latency of Recommend, of an empty call beside it, and whether the next list
    reflects feedback.

    Makes throw-away people and erases them. Fails where one list was stale.
    """
    console = output.stderr()

    async def run() -> BenchReport:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await run_bench(
                client, console, callers=callers, seconds=seconds, checks=checks, seed=seed
            )

    report = asyncio.run(run())
    if as_json:
        output.print_json(asdict(report))
    else:
        print_report(report, output.stdout())
    _judge(report, max_p50_ms)


async def run_bench(
    client: GatewayClient, console: Console, *, callers: int, seconds: float, checks: int, seed: int
) -> BenchReport:
    """All phases, one after the other."""
    page = await client.list_items(_CATALOGUE_SAMPLE)
    if not page.items:
        raise CommandError("the catalogue is empty: import one first with `warmstart import`")
    item_ids = [item.item_id for item in page.items]
    async with throw_away_people(client, _PEOPLE, "bench") as people:
        await like_some(client, people, item_ids, _LIKES, np.random.default_rng(seed))
        await measure_latency(client, people, callers=1, seconds=min(_WARM_UP_S, seconds))
        console.print("one caller …")
        alone = await measure_latency(client, people, callers=1, seconds=seconds)
        console.print(f"{callers} callers …")
        together = await measure_latency(client, people, callers=callers, seconds=seconds)
    console.print("empty calls …")
    short = min(_EMPTY_S, seconds)
    empty = [await measure_empty_calls(client, callers=n, seconds=short) for n in (1, callers)]
    console.print(f"feedback, then a list, {checks:,} times …")
    async with throw_away_people(client, people_needed(checks), "bench") as people:
        staleness = await measure_staleness(client, people, checks=checks, callers=min(callers, 4))
    return BenchReport(client.target, page.total_items, (alone, together), tuple(empty), staleness)


def print_report(report: BenchReport, console: Console) -> None:
    def number(title: str) -> output.Column:
        return output.Column(title, numeric=True)

    columns = [
        number(t) for t in ("callers", "requests", "errors", "degraded", "req/s", "p50 ms", "p95", "p99")
    ]
    rows = [
        (
            r.callers,
            f"{r.requests:,}",
            r.errors,
            r.degraded,
            f"{r.requests_a_second:,.0f}",
            f"{r.p50_ms:.1f}",
            f"{r.p95_ms:.1f}",
            f"{r.p99_ms:.1f}",
        )
        for r in report.latency
    ]
    console.print(output.table(f"Recommend 10 of {report.items:,} items at {report.target}", columns, rows))
    stages = report.latency[0].stages_p50_ms
    if stages:
        shown = ", ".join(f"{name} {ms:.1f}" for name, ms in stages.items())
        console.print(output.escaped(f"one caller's stages, median ms: {shown}"))
    alone, together = report.empty
    console.print(
        f"an empty call (the gateway's health check): p50 {alone.p50_ms:.1f} ms,"
        f" {together.requests_a_second:,.0f} req/s with {together.callers} callers;"
        " use it to compare figures of different machines or days"
    )
    s = report.staleness
    console.print(
        f"feedback then list: {s.checks:,} checks, [bold]{s.stale} stale[/], {s.degraded} degraded; "
        f"p50 {s.feedback_to_list_p50_ms:.1f} ms, p99 {s.feedback_to_list_p99_ms:.1f} ms for both calls"
    )


def _judge(report: BenchReport, max_p50_ms: float) -> None:
    if report.staleness.stale:
        why = ", ".join(f"{n} × {reason}" for reason, n in report.staleness.reasons.items())
        raise CommandError(f"{report.staleness.stale} of {report.staleness.checks} lists were stale: {why}")
    errors = sum(r.errors for r in report.latency)
    if errors:
        raise CommandError(f"{errors} requests failed; see the gateway's log")
    if max_p50_ms and report.latency[0].p50_ms > max_p50_ms:
        raise CommandError(f"one caller's median was {report.latency[0].p50_ms:.1f} ms, over {max_p50_ms:g}")
