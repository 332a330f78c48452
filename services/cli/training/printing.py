"""What a training came to, for people."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markdown import Markdown

from services.cli import options, output

# What the printed table has between two cells, and around them.
_BETWEEN, _AROUND = 3, 2


def print_report(report: str, console: Console) -> None:
    """report: its text in Markdown. Tables that the terminal is too narrow for are printed in parts."""
    # its plots are files: a terminal shows their names at the most
    lines = [line for line in report.splitlines() if not line.startswith("![")]
    console.print(Markdown("\n".join(fitting(lines, console.width))))


def fitting(lines: Sequence[str], width: int) -> Iterator[str]:
    """The lines of a Markdown text with each table in as many as the width asks for, each with the first
    column: rich would cut cells off, numbers too."""
    for is_table, part in groupby(lines, key=lambda line: line.startswith("|")):
        if not is_table:
            yield from part
            continue
        rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in part]
        for place, columns in enumerate(_columns_that_fit(rows, width)):
            yield from [""] if place else []
            yield from ("| " + " | ".join(row[column] for column in (0, *columns)) + " |" for row in rows)


def _columns_that_fit(rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Numbers of the columns after the first, by table; a column that is too wide by itself is alone."""
    shown = [[re.sub(r"`", "", cell) for cell in row] for row in rows if not row[0].startswith("---")]
    first, *others = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    tables: list[list[int]] = []
    left = 0
    for column, wide in enumerate(others, start=1):
        if not tables or left < wide + _BETWEEN:
            tables.append([])
            left = width - _AROUND - first
        tables[-1].append(column)
        left -= wide + _BETWEEN
    return tables


def print_trained(result: Mapping[str, Any], report: str, console: Console, where: str = "") -> None:
    """The few-shot table of the held-out people, then the gate's decision.

    report: its text in Markdown. where: what makes another command mean the same registry.
    """
    print_report(report, console)
    for reason in result["reasons"]:
        console.print(output.escaped(f"gate: {reason}"))
    decision = "is champion now" if result["promoted"] else "is published but was not promoted"
    console.print(f"{result['version']} {decision} ({result['seconds']:g} s)")
    if not result["promoted"]:
        console.print(
            f"promote it all the same with: warmstart models promote {result['version']}{where}",
            soft_wrap=True,
        )


def where_published(result: Mapping[str, Any], data_dir: Path) -> str:
    """What makes `warmstart models` mean the registry and domain that a training published into: a resumed
    run has a registry of its own, whatever the data directory is now. result: of the training process."""
    domain = "" if result["domain"] == options.DOMAIN else f" --domain {result['domain']}"
    registry = Path(result.get("registry") or data_dir / "registry").resolve()
    if registry == (data_dir / "registry").resolve():
        return options.same_place(data_dir) + domain
    return f" --registry {shlex.quote(str(registry))}{domain}"
