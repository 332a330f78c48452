"""`warmstart story`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.cli import options, output
from services.cli.clients import open_gateway
from services.cli.failures import CommandError
from services.cli.story.claims import failures
from services.cli.story.newcomers import NEW_ITEMS
from services.cli.story.tell import Story, StoryOptions, tell
from services.cli.target import gateway_target
from shared.datasets import load

EXAMPLES = options.examples("warmstart story", "warmstart story --new-items 50 --json")
DATASET = "movielens-100k"


def story(
    dataset: Annotated[str, typer.Option(help="The data set that was imported.")] = DATASET,
    path: Annotated[Path | None, typer.Option(help="Folder of the data set's files.")] = None,
    new_items: Annotated[int, typer.Option(help="Items added by text alone.", min=1)] = NEW_ITEMS,
    people: Annotated[int, typer.Option(help="Held-out people who rank them; 0 = all.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Chooses items and people.")] = 0,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Show what the cluster does for people and items it has never seen, and check it.

    Needs an imported data set and a trained model. Removes what it adds. Fails where a claim fails.
    """
    console = output.stderr() if as_json else output.stdout()
    told = asyncio.run(
        run_story(
            gateway_target(gateway, data_dir),
            domain,
            dataset,
            path,
            console,
            StoryOptions(new_items, people, seed),
        )
    )
    if as_json:
        output.print_json({"claims": [asdict(claim) for claim in told.claims()]})
    judge(told)


async def run_story(
    target: str,
    domain: str,
    dataset: str,
    path: Path | None,
    console: Console,
    how: StoryOptions,
) -> Story:
    """Tells it to the gateway at `target`."""
    async with open_gateway(target, domain) as client:
        return await tell(client, load(dataset, path), console, how)


def judge(told: Story) -> None:
    """Raises CommandError where a claim does not hold."""
    failed = failures(told.claims())
    if failed:
        raise CommandError("the story's claims do not all hold:\n" + "\n".join(failed))
