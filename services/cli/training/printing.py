"""What a training came to, for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from services.cli import options, output


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


def where_published(result: Mapping[str, Any], data_dir: Path) -> str:
    """What makes `warmstart models` mean the registry and domain that a training published into: a resumed
    run has a registry of its own, whatever the data directory is now. result: of the training process."""
    domain = "" if result["domain"] == options.DOMAIN else f" --domain {result['domain']}"
    registry = Path(result.get("registry") or data_dir / "registry").resolve()
    if registry == (data_dir / "registry").resolve():
        return options.same_place(data_dir) + domain
    return f" --registry {shlex.quote(str(registry))}{domain}"
