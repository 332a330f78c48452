"""`warmstart train` and `warmstart evaluate`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markdown import Markdown

from services.cli import options, output
from services.cli.cluster.state import read_state
from services.cli.commands.trainings import refuse_local, train_in_service, wanted_training
from services.cli.failures import CommandError
from services.cli.target import service_target
from services.cli.training.child import is_job_server, resume_command, run_directory, run_training
from services.cli.training.printing import print_trained
from services.cli.training.progress import StageBars
from shared.datasets import DATASETS
from shared.holdout import HELD_OUT_SHARE

TRAIN_EXAMPLES = options.examples(
    "warmstart train",
    "warmstart train --preset base --workers 2",
    'warmstart train --adapter gradient --adapter-settings \'{"steps": 3, "learned_rates": true}\'',
    "warmstart train --dataset movielens-1m --path ~/ml-1m --domain films",
    "warmstart train --address http://head:8265 --data-dir /shared/shop --features-target features:20052",
    "warmstart train --resume var/runs/20260101T120000.000Z",
    "warmstart train --service local --preset base",
)
EVALUATE_EXAMPLES = options.examples(
    "warmstart evaluate",
    "warmstart evaluate --dataset movielens-100k --seeds 1 --protocol all",
    "warmstart evaluate --dataset movielens-1m --path ~/ml-1m --preset base --protocol leave-one-out",
    "warmstart evaluate --dataset movielens-1m --path ~/ml-1m --protocol rating",
    "warmstart evaluate --dataset amazon-games --path ~/games --query-last 5",
    "warmstart evaluate --protocol adaptation --seeds 1",
    "warmstart evaluate --adapter reptile --seeds 1",
)
_DATA, _MODEL, _RESOURCES = "Data", "Model", "Resources"

FeaturesTarget = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Feature service to read events and items from; by default the local cluster's.",
        rich_help_panel=_DATA,
    ),
]
DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset", help=f"A known data set instead: {', '.join(DATASETS)}.", rich_help_panel=_DATA
    ),
]
DatasetPath = Annotated[
    Path | None, typer.Option("--path", help="Folder of the data set's files.", rich_help_panel=_DATA)
]
EventsFile = Annotated[
    Path | None, typer.Option("--events", help="Or events in a file.", rich_help_panel=_DATA)
]
ItemsFile = Annotated[
    Path | None, typer.Option("--items", help="Items, beside --events.", rich_help_panel=_DATA)
]
UsersFile = Annotated[
    Path | None, typer.Option("--users", help="People, beside --events.", rich_help_panel=_DATA)
]
RelationsFile = Annotated[
    Path | None, typer.Option("--relations", help="Relations, beside --events.", rich_help_panel=_DATA)
]
Mapping_ = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN,…", help="As in `warmstart import`.", rich_help_panel=_DATA),
]
HeldOutUsers = Annotated[
    Path | None,
    typer.Option(help="Never train on exactly these people, one id a line.", rich_help_panel=_DATA),
]
HeldOutShare = Annotated[
    float, typer.Option(help="Share of people never trained on.", min=0.0, max=1.0, rich_help_panel=_DATA)
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
Steps = Annotated[int, typer.Option(help="0 = the preset's.", min=0, rich_help_panel=_MODEL)]
Workers = Annotated[
    int, typer.Option(help="Data-parallel training workers.", min=1, rich_help_panel=_RESOURCES)
]
Cpus = Annotated[int, typer.Option(help="Cores of this machine, 0 = all.", min=0, rich_help_panel=_RESOURCES)]
Restarts = Annotated[
    int,
    typer.Option(help="Times that workers start again after one died.", min=0, rich_help_panel=_RESOURCES),
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


def train(
    preset: Preset = "small",
    adapter: Adapter = "ridge",
    adapter_settings: AdapterSettings = "{}",
    seed: Seed = 0,
    pretrain_steps: Steps = 0,
    meta_steps: Steps = 0,
    promote: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="Make it champion; auto: if the gate passes."),
    ] = "auto",
    resume: Resume = None,
    features_target: FeaturesTarget = "",
    dataset: DatasetName = "",
    path: DatasetPath = None,
    events: EventsFile = None,
    items: ItemsFile = None,
    users: UsersFile = None,
    relations: RelationsFile = None,
    mapping: Mapping_ = None,
    held_out_users: HeldOutUsers = None,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
    workers: Workers = 1,
    cpus: Cpus = 0,
    restarts: Restarts = 3,
    address: Address = "",
    as_json: options.Json = False,
    service: options.InService = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Train a model on Ray, publish it, and promote it if it serves strangers well enough.

    Servers take a new champion up while they serve. Ctrl-C stops the run; --resume goes on with it. With
    --service it runs in the training service, which Ctrl-C leaves running.
    """
    if service:
        local: dict[str, object] = {"--features-target": features_target, "--address": address}
        local |= {"--events": events, "--items": items, "--users": users, "--relations": relations}
        refuse_local({**local, "--map": mapping, "--held-out-users": held_out_users})
        wanted = wanted_training(
            dataset=dataset, path=str(path or ""), preset=preset, adapter=adapter,
            adapter_settings=adapter_settings, seed=seed, pretrain_steps=pretrain_steps,
            meta_steps=meta_steps, workers=workers, cpus=cpus, promote=promote, held_out_share=held_out_share,
        )  # fmt: skip
        target = service_target(service, data_dir)
        train_in_service(target, domain, resume.name if resume else wanted, as_json)
        return
    files = {"events": events, "items": items, "users": users, "relations": relations}
    source = source_arguments(data_dir, features_target, dataset, path, files, mapping)
    arguments = ["train"]
    if resume is not None:
        arguments += ["--resume", str(resume)]
    else:
        arguments += [*source(), "--promote", promote]
        held_out = _held_out(held_out_share, held_out_users)
        arguments += _shared(preset, (adapter, adapter_settings), seed, pretrain_steps, meta_steps, held_out)
        arguments += [*_where(data_dir, domain, address), *_resources(workers, cpus, restarts)]
    arguments += _cluster(address)
    result = follow(arguments, output.stderr())
    if as_json:
        output.print_json(result)
    else:
        print_trained(result, report_text(result), output.stdout())


def evaluate(
    protocol: Annotated[
        Literal["few-shot", "adaptation", "new-items", "feedback", "leave-one-out", "rating", "all"],
        typer.Option(
            help="What to measure; adaptation: as served against fine-tuning the whole body; rating: stars; "
            "all: all but leave-one-out and rating."
        ),
    ] = "few-shot",
    seeds: Annotated[int, typer.Option(help="Trainings of each arm.", min=1)] = 3,
    preset: Preset = "small",
    adapter: Adapter = "ridge",
    adapter_settings: AdapterSettings = "{}",
    seed: Seed = 0,
    pretrain_steps: Steps = 0,
    meta_steps: Steps = 0,
    query_last: Annotated[
        int,
        typer.Option(
            help="few-shot: ask for everybody's last so many events, after up to 3 (short histories); "
            "0 = events 21 to 30 after up to 20.",
            min=0,
        ),
    ] = 0,
    resume: Resume = None,
    data_run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Or the data of an earlier run.", rich_help_panel=_DATA),
    ] = None,
    features_target: FeaturesTarget = "",
    dataset: DatasetName = "",
    path: DatasetPath = None,
    events: EventsFile = None,
    items: ItemsFile = None,
    users: UsersFile = None,
    relations: RelationsFile = None,
    mapping: Mapping_ = None,
    held_out_users: HeldOutUsers = None,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
    workers: Workers = 1,
    cpus: Cpus = 0,
    restarts: Restarts = 3,
    address: Address = "",
    as_json: options.Json = False,
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Measure how well these settings serve people that were never trained on (leave-one-out: whom the model
    knows).

    Prints the table of the protocol: baselines, the model re-encoding histories, adaptation off and on.
    Publishes nothing.
    """
    files = {"events": events, "items": items, "users": users, "relations": relations}
    source = source_arguments(data_dir, features_target, dataset, path, files, mapping)
    arguments = ["evaluate"]
    if resume is not None:
        arguments += ["--resume", str(resume)]
    else:
        arguments += [f"--data-run={data_run}"] if data_run else source()
        arguments += ["--protocol", protocol, "--seeds", str(seeds), "--query-last", str(query_last)]
        held_out = _held_out(held_out_share, held_out_users)
        arguments += _shared(preset, (adapter, adapter_settings), seed, pretrain_steps, meta_steps, held_out)
        arguments += [*_where(data_dir, domain, address), *_resources(workers, cpus, restarts)]
    arguments += _cluster(address)
    result = follow(arguments, output.stderr())
    if as_json:
        output.print_json(result)
        return
    console = output.stdout()
    console.print(Markdown(str(result["markdown"])))
    console.print(f"{result['seconds']:g} s; report: {result['report']['markdown']}", soft_wrap=True)


def source_arguments(
    data_dir: Path,
    features_target: str,
    dataset: str,
    path: Path | None,
    files: Mapping[str, Path | None],
    mapping: Sequence[str] | None,
) -> Any:
    """A function giving the options that say where the data come from; called where a run is new."""

    def arguments() -> list[str]:
        given = [f"--{kind}={file}" for kind, file in files.items() if file is not None]
        given += [f"--map={pair}" for pair in mapping or ()]
        if dataset:
            given += [f"--dataset={dataset}", *([f"--path={path}"] if path else [])]
        if features_target or not given:
            given.append(f"--features-target={features_target or _local_features(data_dir)}")
        return given

    return arguments


def report_text(result: Mapping[str, Any]) -> str:
    """The report in Markdown, from the run's directory; where it is, if only a cluster sees that."""
    path = Path(result["report"]["markdown"])
    return path.read_text(encoding="utf-8") if path.is_file() else f"report, on the cluster: `{path}`"


def train_arguments(data_dir: Path, source: Sequence[str], *, preset: str) -> list[str]:
    """The options of a first training, all else at its defaults."""
    model = _shared(preset, ("ridge", "{}"), 0, 0, 0, ())
    return ["train", *source, *model, *_where(data_dir, options.DOMAIN, "")]


def follow(arguments: Sequence[str], console: Console) -> dict[str, Any]:
    """Runs the process with its bars. Where it is interrupted, says how to go on."""
    run: list[Path] = []
    try:
        with StageBars(console) as bars:

            def on_line(line: dict[str, Any]) -> None:
                directory = run_directory(line)
                if directory is not None:
                    run.append(directory)
                bars.show(line)

            return run_training(arguments, on_line)
    except KeyboardInterrupt:
        if run:
            command = resume_command(arguments, run[0])
            console.print(f"stopped; go on with: {output.escaped(command)}", soft_wrap=True)
        raise


def _local_features(data_dir: Path) -> str:
    state = read_state(data_dir)
    if state is None:
        raise CommandError(
            "nothing to train on: no cluster runs on this data directory. Start one with `warmstart up` and "
            "import, or say where the data are with --features-target, --dataset or --events"
        )
    return state.ports.target("features")


def _shared(
    preset: str,
    adapter: tuple[str, str],
    seed: int,
    pretrain_steps: int,
    meta_steps: int,
    held_out: Sequence[str],
) -> list[str]:
    """adapter: its name and its settings."""
    given = ["--preset", preset, "--adapter", adapter[0], f"--adapter-settings={adapter[1]}"]
    given += ["--seed", str(seed)]
    given += ["--pretrain-steps", str(pretrain_steps), "--meta-steps", str(meta_steps)]
    return [*given, *held_out]


def _held_out(share: float, users: Path | None) -> list[str]:
    return ["--held-out-share", str(share), *(["--held-out-users", str(users)] if users else [])]


def _where(data_dir: Path, domain: str, address: str) -> list[str]:
    if is_job_server(address) and not data_dir.is_absolute():
        raise CommandError(
            f"--data-dir must be an absolute path with --address {address}, on a file system that all "
            f"machines of the cluster share, got {data_dir}"
        )
    data_dir = data_dir.absolute() if address else data_dir
    moment = datetime.fromtimestamp(time.time(), UTC)
    run = data_dir / "runs" / f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"
    return ["--domain", domain, "--registry", str(data_dir / "registry"), "--run-dir", str(run)]


def _resources(workers: int, cpus: int, restarts: int) -> list[str]:
    return ["--workers", str(workers), "--cpus", str(cpus), "--restarts", str(restarts)]


def _cluster(address: str) -> list[str]:
    return [f"--address={address}"] if address else []
