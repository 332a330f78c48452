"""Outcomes as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from services.cli.output import Column, escaped, table
from tests.chaos.claims import Claim
from tests.chaos.outcome import Latency, Outcome


def print_outcome(console: Console, about: str, found: Outcome, claims: Sequence[Claim]) -> None:
    console.rule(f"[bold]{found.scenario}[/bold]  {about}", align="left")
    rows = (
        ("requests", f"{found.all_requests}: {_counts(found.requests)}"),
        ("failed", _counts(found.codes) or "none"),
        ("rungs during the fault", _counts(found.rungs) or "no list"),
        ("lists before", _latency(found.before)),
        ("lists during", f"{_latency(found.during)}; {_ratio(found)}"),
        ("fault, recovery", f"{found.fault_s:.1f} s, {found.recovery_s:.2f} s"),
        (
            "events",
            f"{found.kept.acknowledged} acknowledged, {found.kept.lost} lost, "
            f"{found.kept.twice} applied twice",
        ),
    )
    console.print(table("", ("", ""), rows))
    for reason, count in list(found.reasons.items())[:3]:
        console.print(escaped(f"  {count} × {reason}"))
    for claim in claims:
        mark = "[green]✓[/green]" if claim.holds else "[red]✗[/red]"
        console.print(f"{mark} {escaped(claim.text)}: {escaped(claim.figure)}")


def print_summary(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """A row a scenario."""
    rows = [
        (
            one["scenario"],
            sum(one["requests"].values()),
            sum(one["failed"].values()),
            f"{one['during']['p50_ms'] / one['before']['p50_ms']:.1f}",
            f"{one['recovery_s']:.2f}",
            one["kept"]["acknowledged"],
            one["kept"]["lost"],
            one["kept"]["twice"],
            f"{sum(c['holds'] for c in one['claims'])} of {len(one['claims'])}",
        )
        for one in found
    ]
    titles = ("requests", "failed", "during/before", "recovery s", "events", "lost", "twice", "claims hold")
    console.rule()
    console.print(table("", ("scenario", *(Column(title, numeric=True) for title in titles)), rows))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


def _latency(latency: Latency) -> str:
    return f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms"


def _ratio(found: Outcome) -> str:
    p50, p99 = found.during.p50_ms / found.before.p50_ms, found.during.p99_ms / found.before.p99_ms
    return f"{p50:.1f} and {p99:.1f} times before"
