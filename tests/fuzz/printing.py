"""Tallies as people read them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from services.cli.output import Column, escaped, table
from tests.fuzz.tally import Finding, Tally
from tests.fuzz.world import Memory

_SHOWN_REFUSALS = 3
_TITLES = ("cases", "a second", "accepted", "refused", "crashes", "hangs", "slowest s", "peak MB")


def print_tallies(console: Console, tallies: Sequence[Tally], memory: Mapping[str, Memory]) -> None:
    """A row a target, and what all come to."""
    console.print(
        table("", ("target", *(Column(title, numeric=True) for title in _TITLES)), map(_row, tallies))
    )
    for name, one in memory.items():
        console.print(
            escaped(f"  {name}: {one.start:.0f} MB at the start, {one.warm:.0f} after the first round, "
                    f"{one.peak:.0f} at the most, {one.now:.0f} at the end")
        )  # fmt: skip
    cases = sum(tally.cases for tally in tallies)
    rpcs = sum(tally.cases for tally in tallies if tally.is_rpc)
    crashes, hangs = sum(t.crashes for t in tallies), sum(t.hangs for t in tallies)
    share = f"{rpcs:,} of them calls of RPCs ({100 * rpcs / max(cases, 1):.0f}%)"
    console.print(f"{cases:,} cases, {share}: {crashes} crashes, {hangs} hangs")


def print_findings(console: Console, tallies: Sequence[Tally], out: Path) -> None:
    """Writes each finding's case, and says how it is repeated."""
    for tally in tallies:
        for finding in tally.findings.values():
            console.rule(f"[red]✗[/red] {escaped(finding.target)}", align="left")
            console.print(escaped(finding.problem))
            if finding.case or tally.target != "servers":
                console.print(f"  {escaped(_written(finding, out))}")


def as_json(tallies: Sequence[Tally], memory: Mapping[str, Memory]) -> dict[str, Any]:
    return {
        "cases": sum(tally.cases for tally in tallies),
        "rpc_cases": sum(tally.cases for tally in tallies if tally.is_rpc),
        "crashes": sum(tally.crashes for tally in tallies),
        "hangs": sum(tally.hangs for tally in tallies),
        "targets": [
            {
                "target": t.target, "cases": t.cases, "seconds": t.seconds, "accepted": t.accepted,
                "refused": dict(t.refused), "crashes": t.crashes, "hangs": t.hangs, "slowest_s": t.slowest_s,
                "peak_mb": t.peak_mb, "findings": [f.problem for f in t.findings.values()],
            }
            for t in tallies
        ],
        "memory_mb": {
            n: {"start": m.start, "warm": m.warm, "peak": m.peak, "end": m.now} for n, m in memory.items()
        },
    }  # fmt: skip


def _row(tally: Tally) -> tuple[str, ...]:
    rate = f"{tally.cases / tally.seconds:,.0f}" if tally.seconds else ""
    peak = f"{tally.peak_mb:.0f}" if tally.peak_mb else ""
    return (
        tally.target, f"{tally.cases:,}", rate, f"{tally.accepted:,}", _refusals(tally.refused),
        str(tally.crashes), str(tally.hangs), f"{tally.slowest_s:.2f}", peak,
    )  # fmt: skip


def _refusals(refused: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in refused.most_common(_SHOWN_REFUSALS))


def _written(finding: Finding, out: Path) -> str:
    """The case's file and the command that repeats it."""
    number = len(list(out.glob("*.bin")))
    file = out / f"{finding.target.replace('/', '-')}-{number}.bin"
    file.write_bytes(finding.case)
    return f"python -m tests.fuzz {finding.target} --replay {shlex.quote(str(file))}"
