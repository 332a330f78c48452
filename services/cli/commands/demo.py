"""`warmstart demo`: everything, from an empty directory to the story."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.rule import Rule

from services.cli import options, output
from services.cli.clients import open_gateway
from services.cli.cluster.local import LocalCluster, local_cluster
from services.cli.cluster.ports import DEFAULT_BASE_PORT
from services.cli.cluster.state import read_state
from services.cli.commands import importing, training
from services.cli.commands import story as storytelling
from services.cli.commands.cluster import BasePort, FreePorts, announce, hold, port_choice
from services.cli.failures import CommandError
from services.cli.importing.rejects import RejectsFile
from services.cli.story.tell import StoryOptions
from services.cli.training.arguments import train_arguments
from services.cli.training.options import Preset
from services.cli.training.printing import print_trained, where_published
from shared.artifacts import Registry
from shared.datasets import load

EXAMPLES = options.examples("warmstart demo", "warmstart demo --stay", "warmstart demo --free-ports")
_DATASET = storytelling.DATASET
_HEALTHY_S = 120.0


def demo(
    stay: Annotated[
        bool, typer.Option("--stay", help="Leave the cluster up after the story, until Ctrl-C.")
    ] = False,
    preset: Preset = "small",
    new_items: Annotated[int, typer.Option(help="Items that the story adds by text alone.", min=1)] = 100,
    base_port: BasePort = DEFAULT_BASE_PORT,
    free: FreePorts = False,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Start the cluster, import MovieLens-100K, train, and tell the story.

    What is there from an earlier run is reused: the data, the model. Fails where the
    story's claims do not hold.
    """
    console = output.stdout()
    began = time.monotonic()
    if read_state(data_dir) is not None:
        raise CommandError(
            f"a cluster already runs on {data_dir}: tell its story with `warmstart story`, "
            f"or stop it first with `warmstart down{options.same_place(data_dir)}`"
        )
    with local_cluster(data_dir, port_choice(base_port, free)) as cluster:
        with _chapter("The cluster", console):
            cluster.wait_until_healthy(_HEALTHY_S, output.stderr())
        with _chapter("The data", console):
            _import_once(cluster)
        with _chapter("The model", console):
            _train_once(cluster, preset, console)
            cluster.wait_until_healthy(_HEALTHY_S, output.stderr(), need_model=True)
        gateway = cluster.ports.target("gateway")
        told = asyncio.run(
            storytelling.run_story(gateway, options.DOMAIN, _DATASET, None, console, StoryOptions(new_items))
        )
        console.print(f"All of it took {time.monotonic() - began:,.0f} s.")
        if stay:
            announce(cluster)
            _hold_until_interrupted(cluster)
    output.stderr().print("stopped")
    storytelling.judge(told)


@contextmanager
def _chapter(title: str, console: Console) -> Iterator[None]:
    console.print(Rule(title, align="left"))
    started = time.monotonic()
    yield
    console.print(f"{title.lower()}: {time.monotonic() - started:,.1f} s", style="dim")


def _hold_until_interrupted(cluster: LocalCluster) -> None:
    try:
        hold(cluster)
    except KeyboardInterrupt:
        output.stderr().print("stopping …")


def _import_once(cluster: LocalCluster) -> None:
    """Imports the data set unless a finished import is noted and its items are there."""
    mark = importing.import_mark(cluster.data_dir, options.DOMAIN, _DATASET)
    target = cluster.ports.target("gateway")
    if mark.exists() and asyncio.run(_count_items(target)):
        output.stdout().print(f"{_DATASET} was imported before")
        return
    rejects = cluster.data_dir / "rejects" / f"{options.DOMAIN}-{_DATASET}.jsonl"
    started = time.monotonic()
    with RejectsFile(rejects) as file:
        counts, unknown = asyncio.run(
            importing.run_import(target, options.DOMAIN, load(_DATASET), file, output.stderr())
        )
    importing.report(counts, unknown, time.monotonic() - started, rejects, as_json=False)
    importing.check_bad_share(counts, 0.0, rejects)
    importing.mark_imported(cluster.data_dir, options.DOMAIN, _DATASET, counts)


async def _count_items(target: str) -> int:
    async with open_gateway(target, options.DOMAIN) as client:
        return int((await client.list_items(1)).total_items)


def _train_once(cluster: LocalCluster, preset: str, console: Console) -> None:
    """Trains unless there is a champion."""
    champion = Registry(cluster.data_dir / "registry").champion(options.DOMAIN)
    if champion is not None:
        console.print(f"champion {champion.version} was trained before")
        return
    arguments = train_arguments(
        cluster.data_dir, [f"--features-target={cluster.ports.target('features')}"], preset=preset
    )
    result = training.follow(arguments, output.stderr())
    where = where_published(result, cluster.data_dir)
    print_trained(result, training.report_text(result), console, where)
    if Registry(cluster.data_dir / "registry").champion(options.DOMAIN) is None:
        raise CommandError("the trained model did not pass its gate, so there is none to serve")
