"""`warmstart import`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.cli import options, output
from services.cli.clients import open_gateway
from services.cli.failures import CommandError
from services.cli.importing.counts import OUTCOMES, Counts
from services.cli.importing.rejects import RejectsFile, drop_old, rejects_name
from services.cli.importing.run import ImportOptions, import_dataset
from services.cli.importing.unknown_items import NamedItems, UnknownItems, ask_for
from services.cli.reading import (
    PANEL,
    ActionName,
    Mapping_,
    RatingScale,
    Reading,
    Separator,
    TimeUnitName,
)
from services.cli.target import gateway_target
from shared.datasets import DATASETS, Dataset, load, load_files

_FOLDERS = "Folders of data sets (--path):\n\n" + "\n\n".join(
    f"  {name}: {known.needs or 'none is needed'}" for name, known in DATASETS.items()
)
EXAMPLES = f"{_FOLDERS}\n\n" + options.examples(
    "warmstart import --dataset movielens-100k",
    "warmstart import --dataset movielens-1m --path ~/ml-1m",
    "warmstart import --events log.csv --map user=uid,item=sku,time=ts --action click",
    "warmstart import --items items.jsonl --map item=asin,attribute.brand=brand",
)


def import_(
    dataset: Annotated[str, typer.Option(help=f"A known data set: {', '.join(DATASETS)}.")] = "",
    path: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data set's files, which are named below.", exists=True, file_okay=False
        ),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="Events: CSV, TSV, JSON Lines or Parquet.", exists=True, rich_help_panel=PANEL),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="Items.", exists=True, rich_help_panel=PANEL)] = None,
    users: Annotated[Path | None, typer.Option(help="People.", exists=True, rich_help_panel=PANEL)] = None,
    relations: Annotated[
        Path | None, typer.Option(help="Ties between people.", exists=True, rich_help_panel=PANEL)
    ] = None,
    mapping: Mapping_ = None,
    action: ActionName = "",
    time_unit: TimeUnitName = "",
    rating_scale: RatingScale = "1:5",
    separator: Separator = "|",
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="File for rows that could not be stored; by default one for each imported "
            "file in `rejects` under the data directory.",
            dir_okay=False,
        ),
    ] = None,
    rejects_days: Annotated[
        int,
        typer.Option(
            envvar="WARMSTART_REJECTS_DAYS",
            help="Delete rejects files under the data directory that are older than so many days, as they "
            "hold rows of people; 0 keeps them.",
            min=0,
        ),
    ] = 0,
    max_bad_share: Annotated[
        float, typer.Option(help="Fail where more than this share of a kind's rows is bad.", min=0.0, max=1.0)
    ] = 0.01,
    allow_bad_rows: Annotated[
        bool, typer.Option("--allow-bad-rows", help="Never fail because of bad rows.")
    ] = False,
    lanes: Annotated[int, typer.Option(help="Batches on their way at once.", min=1, max=64)] = 4,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Store events, items, people and relations through the gateway.

    Bad rows go to a rejects file with their number and reason. Event ids are derived from the events,
    so importing the same file twice changes nothing; equal rows within one file are as many events.
    """
    files = {
        kind: file
        for kind, file in (("items", items), ("users", users), ("relations", relations), ("events", events))
        if file is not None
    }
    if bool(dataset) == bool(files):
        raise typer.BadParameter("give either --dataset or files (--events, --items, --users, --relations)")
    if dataset:
        source = load(dataset, path)
    else:
        reading = Reading(mapping, action, time_unit, rating_scale, separator)
        source = load_files(files, reading.columns(), reading.options())
    target = gateway_target(gateway, data_dir)
    console = output.stderr()
    for note in source.notes:
        console.print(f"note: {output.escaped(note)}")
    name = dataset or rejects_name(list(files.values()))
    rejects_path = rejects or data_dir / "rejects" / f"{domain}-{name}.jsonl"
    dropped = drop_old(data_dir / "rejects", rejects_days, time.time())
    if dropped:
        console.print(f"note: {dropped} rejects files older than {rejects_days} days deleted")
    started = time.monotonic()
    with RejectsFile(rejects_path) as file:
        counts, unknown = asyncio.run(run_import(target, domain, source, file, console, lanes=lanes))
    seconds = time.monotonic() - started
    report(counts, unknown, seconds, rejects_path, as_json=as_json)
    check_bad_share(counts, 1.0 if allow_bad_rows else max_bad_share, rejects_path)
    if dataset:
        mark_imported(data_dir, domain, dataset, counts)


async def run_import(
    target: str, domain: str, source: Dataset, rejects: RejectsFile, console: Console, *, lanes: int = 4
) -> tuple[dict[str, Counts], UnknownItems | None]:
    """Imports into the gateway at `target`, then asks it for the items that the events name."""
    named = NamedItems()
    async with open_gateway(target, domain) as client:
        counts = await import_dataset(
            client, named.noting(source), ImportOptions(lanes=lanes), rejects, console
        )
        return counts, await ask_for(named, client)


def report(
    counts: Mapping[str, Counts],
    unknown: UnknownItems | None,
    seconds: float,
    rejects: Path,
    *,
    as_json: bool,
) -> None:
    """The closing summary on stdout."""
    total_rejected = sum(c.rejected for c in counts.values())
    if as_json:
        output.print_json(
            {
                "kinds": {kind: c.as_dict() for kind, c in counts.items()},
                "seconds": round(seconds, 3),
                "rejects_file": str(rejects) if total_rejected else None,
                "items_not_in_catalogue": unknown.as_dict() if unknown else None,
            }
        )
        return
    columns = [output.Column("kind"), *(output.Column(n, numeric=True) for n in ("read", *OUTCOMES))]
    rows = [[kind, *(f"{n:,}" for n in c.as_dict().values())] for kind, c in counts.items()]
    console = output.stdout()
    console.print(output.table(f"Imported in {seconds:,.1f} s", columns, rows))
    if total_rejected:
        console.print(f"{total_rejected:,} rejected rows, with reasons: {output.escaped(str(rejects))}")
    if unknown and unknown.missing:
        console.print(f"note: {unknown.note()}", soft_wrap=True)


def check_bad_share(counts: Mapping[str, Counts], allowed: float, rejects: Path) -> None:
    """Raises CommandError where a kind has more bad rows than allowed."""
    over = [f"{c.bad_share:.1%} of the {kind}" for kind, c in counts.items() if c.bad_share > allowed]
    if over:
        raise CommandError(
            f"{' and '.join(over)} could not be stored (allowed: {allowed:.1%}); "
            f"the reasons are in {rejects}. Correct the rows and import again, "
            "or pass --max-bad-share or --allow-bad-rows"
        )


def mark_imported(data_dir: Path, domain: str, dataset: str, counts: Mapping[str, Counts]) -> None:
    """Notes a finished import, so that `warmstart demo` need not repeat it."""
    mark = import_mark(data_dir, domain, dataset)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps({kind: c.as_dict() for kind, c in counts.items()}))


def import_mark(data_dir: Path, domain: str, dataset: str) -> Path:
    """Where a finished import is noted."""
    return data_dir / "imports" / f"{domain}-{dataset}.json"
