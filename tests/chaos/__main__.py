"""`make chaos`: every scenario, or those named, with its figures; exit code 1 where a claim does not hold."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.cli import output
from services.cli.options import examples
from shared.rpc.loop import EventLoop
from tests.chaos.earlier import ROOT, earlier_commit
from tests.chaos.open import open_world
from tests.chaos.printing import print_outcome, print_summary
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.world import SHORT, Effort, Skipped

_EPILOG = examples("python -m tests.chaos", "python -m tests.chaos kill-store hang-scoring --json out.json")


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Scenarios; all where none is named.")] = None,
    short: Annotated[bool, typer.Option(help="Seconds instead of minutes, as in `make test`.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say which scenarios there are.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Directory for logs; else they go with a temporary one.")
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            help="Commit that `rollout` comes from; by default where this branch left main, or the last tag.",
            show_default=False,
        ),
    ] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
) -> None:
    """Fail on purpose, and look at what callers see."""
    console = output.stdout()
    if list_:
        for scenario in SCENARIOS.values():
            console.print(f"{scenario.name:24} {scenario.about}")
        return
    chosen = names or list(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        raise typer.BadParameter(f"must be of {', '.join(SCENARIOS)}, got {', '.join(unknown)}")
    if against:
        try:
            earlier_commit(against, ROOT)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        effort = replace(SHORT if short else Effort(), against=against)
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            found = runner.run(run(chosen, keep or Path(directory), effort, console))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    raise typer.Exit(0 if all(c["holds"] for one in found for c in one["claims"]) else 1)


async def run(
    names: Sequence[str], directory: Path, effort: Effort, console: Console
) -> list[dict[str, Any]]:
    """One after the other on the same servers; each leaves them well."""
    found = []
    async with AsyncExitStack() as stack:
        with console.status("the servers start"):
            world = await stack.enter_async_context(open_world(directory, effort))
        for name in names:
            began = time.monotonic()
            with console.status(f"{name}: {SCENARIOS[name].about}"):
                try:
                    outcome, claims = await SCENARIOS[name].run(world, name)
                except Skipped as why:
                    console.print(f"{name}: skipped: {why}")
                    continue
            print_outcome(console, SCENARIOS[name].about, outcome, claims)
            found.append(
                {**asdict(outcome), "claims": [asdict(c) for c in claims], "took_s": time.monotonic() - began}
            )
    print_summary(console, found)
    return found


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command(epilog=_EPILOG)(main)

if __name__ == "__main__":
    app(prog_name="python -m tests.chaos")
