"""What a training came to, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from services.cli import output


def print_trained(result: Mapping[str, Any], report: str, console: Console, where: str = "") -> None:
    """The few-shot table of the held-out people, then the gate's decision.

    report: its text in Markdown. where: what makes another command mean the same registry.
    """
    # its plots are files: a terminal shows their names at the most
    text = "\n".join(line for line in report.splitlines() if not line.startswith("!["))
    console.print(Markdown(text))
    for reason in result["reasons"]:
        console.print(output.escaped(f"gate: {reason}"))
    decision = "is champion now" if result["promoted"] else "is published but was not promoted"
    console.print(f"{result['version']} {decision} ({result['seconds']:g} s)")
    if not result["promoted"]:
        console.print(
            f"promote it all the same with: warmstart models promote {result['version']}{where}",
            soft_wrap=True,
        )
