"""Options that `train` and `evaluate` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli.reading import PANEL
from shared.datasets import DATASETS

DATA, _MODEL, _RESOURCES = "Data", "Model", "Resources"

FeaturesTarget = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Feature service to read events and items from; by default the local cluster's.",
        rich_help_panel=DATA,
    ),
]
DatasetName = Annotated[
    str,
    typer.Option("--dataset", help=f"A known data set instead: {', '.join(DATASETS)}.", rich_help_panel=DATA),
]
DatasetPath = Annotated[
    Path | None,
    typer.Option(
        "--path",
        help="Folder of the data set's files, as `warmstart import --help` names them.",
        rich_help_panel=DATA,
    ),
]
EventsFile = Annotated[
    Path | None,
    typer.Option("--events", help="Or events: CSV, TSV, JSON Lines or Parquet.", rich_help_panel=PANEL),
]
ItemsFile = Annotated[
    Path | None, typer.Option("--items", help="Items, beside --events.", rich_help_panel=PANEL)
]
UsersFile = Annotated[
    Path | None, typer.Option("--users", help="People, beside --events.", rich_help_panel=PANEL)
]
RelationsFile = Annotated[
    Path | None, typer.Option("--relations", help="Relations, beside --events.", rich_help_panel=PANEL)
]
HeldOutUsers = Annotated[
    Path | None,
    typer.Option(help="Never train on exactly these people, one id a line.", rich_help_panel=DATA),
]
HeldOutShare = Annotated[
    float,
    typer.Option(help="Share of people never trained on, above 0 and below 1.", rich_help_panel=DATA),
]
PresetName = Literal["tiny", "small", "base", "large"]
Preset = Annotated[PresetName, typer.Option(help="Size and length of the training.", rich_help_panel=_MODEL)]
Adapter = Annotated[
    Literal["ridge", "gradient", "amortised", "none", "finetune", "reptile"],
    typer.Option(
        help="How it adapts; finetune and reptile adapt whole bodies, which `evaluate` alone can do.",
        rich_help_panel=_MODEL,
    ),
]
AdapterSettings = Annotated[
    str,
    typer.Option(
        metavar="JSON",
        help="The adapter's own settings, as in its file of shared/adapters.",
        rich_help_panel=_MODEL,
    ),
]
Seed = Annotated[int, typer.Option(help="Makes a run repeatable.", rich_help_panel=_MODEL)]
PrivateEpsilon = Annotated[
    float | None,
    typer.Option(
        metavar="E",
        help="Train with differential privacy: ε of each person trained on, for example 4.",
        rich_help_panel=_MODEL,
    ),
]
PrivateDelta = Annotated[
    float,
    typer.Option(
        metavar="D",
        help="δ of a private training: below one over the people trained on.",
        rich_help_panel=_MODEL,
    ),
]
Steps = Annotated[int, typer.Option(help="0 = the preset's.", min=0, rich_help_panel=_MODEL)]
Workers = Annotated[
    int, typer.Option(help="Data-parallel training workers.", min=1, rich_help_panel=_RESOURCES)
]
Cpus = Annotated[int, typer.Option(help="Cores of this machine, 0 = all.", min=0, rich_help_panel=_RESOURCES)]
SideBySide = Annotated[
    int,
    typer.Option(
        help="Trainings at a time, each with its share of the cores; 0 = one a core.",
        min=0,
        rich_help_panel=_RESOURCES,
    ),
]
Restarts = Annotated[
    int,
    typer.Option(help="Times that workers start again after one died.", min=0, rich_help_panel=_RESOURCES),
]
PeopleInMemory = Annotated[
    int,
    typer.Option(
        help="Of more people, pre-training streams all from disk, and the rest is learnt from so many.",
        min=1,
        rich_help_panel=_RESOURCES,
    ),
]
Address = Annotated[
    str,
    typer.Option(
        help="A Ray cluster: http://HOST:8265 submits the training as a job, HOST:PORT or auto joins it from "
        "one of its machines. Runs and models go below --data-dir, then a path that all of its machines "
        "share. By default a local Ray.",
        rich_help_panel=_RESOURCES,
    ),
]
Resume = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run, or a service's training.")
]
