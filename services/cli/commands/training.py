"""`warmstart train` and `warmstart evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from services.cli import options, output
from services.cli.commands.trainings import refuse_local, train_in_service, wanted_training
from services.cli.reading import ActionName, Mapping_, RatingScale, Reading, Separator, TimeUnitName
from services.cli.target import service_target
from services.cli.training.arguments import (
    cluster_arguments,
    erasures_arguments,
    held_out_arguments,
    model_arguments,
    place_arguments,
    private_arguments,
    resource_arguments,
    source_arguments,
)
from services.cli.training.child import resume_command, run_directory, run_training
from services.cli.training.options import (
    DATA,
    Adapter,
    AdapterSettings,
    Address,
    Cpus,
    DatasetName,
    DatasetPath,
    EventsFile,
    FeaturesTarget,
    HeldOutShare,
    HeldOutUsers,
    ItemsFile,
    PeopleInMemory,
    Preset,
    PrivateDelta,
    PrivateEpsilon,
    RelationsFile,
    Restarts,
    Resume,
    Seed,
    SideBySide,
    Steps,
    UsersFile,
    Workers,
)
from services.cli.training.printing import print_report, print_trained, where_published
from services.cli.training.progress import StageBars
from shared.holdout import HELD_OUT_SHARE

TRAIN_EXAMPLES = options.examples(
    "warmstart train",
    "warmstart train --preset base --workers 2",
    'warmstart train --adapter gradient --adapter-settings \'{"steps": 3, "learned_rates": true}\'',
    "warmstart train --dataset movielens-1m --path ~/ml-1m --domain films",
    "warmstart train --events log.csv --items items.jsonl --map user=uid,item=sku,time=ts --action click",
    "warmstart train --address http://head:8265 --data-dir /shared/shop --features-target features:20052",
    "warmstart train --resume var/runs/20260101T120000.000Z",
    "warmstart train --service local --preset base",
    "warmstart train --private-epsilon 4",
)
EVALUATE_EXAMPLES = options.examples(
    "warmstart evaluate",
    "warmstart evaluate --dataset movielens-100k --seeds 1 --protocol all",
    "warmstart evaluate --dataset movielens-1m --path ~/ml-1m --preset base --protocol leave-one-out",
    "warmstart evaluate --dataset movielens-1m --path ~/ml-1m --protocol rating",
    "warmstart evaluate --dataset amazon-games --path ~/games --query-last 5",
    "warmstart evaluate --events log.csv --rating-scale 0:10 --seeds 1",
    "warmstart evaluate --protocol adaptation --seeds 1",
    "warmstart evaluate --protocol adapters --seeds 1",
    "warmstart evaluate --dataset movielens-100k --protocol private",
    "warmstart evaluate --adapter reptile --seeds 1",
)


def train(
    preset: Preset = "small",
    adapter: Adapter = "ridge",
    adapter_settings: AdapterSettings = "{}",
    seed: Seed = 0,
    pretrain_steps: Steps = 0,
    meta_steps: Steps = 0,
    private_epsilon: PrivateEpsilon = None,
    private_delta: PrivateDelta = 1e-6,
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
    action: ActionName = "",
    time_unit: TimeUnitName = "",
    rating_scale: RatingScale = "1:5",
    separator: Separator = "|",
    held_out_users: HeldOutUsers = None,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
    workers: Workers = 1,
    cpus: Cpus = 0,
    restarts: Restarts = 3,
    people_in_memory: PeopleInMemory = 200_000,
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
    reading = Reading(mapping, action, time_unit, rating_scale, separator)
    if service:
        local: dict[str, object] = {"--features-target": features_target, "--address": address}
        local |= {"--events": events, "--items": items, "--users": users, "--relations": relations}
        refuse_local({**local, **reading.given(), "--held-out-users": held_out_users})
        wanted = wanted_training(
            dataset=dataset, path=str(path or ""), preset=preset, adapter=adapter,
            adapter_settings=adapter_settings, seed=seed, pretrain_steps=pretrain_steps,
            meta_steps=meta_steps, workers=workers, cpus=cpus, promote=promote, held_out_share=held_out_share,
            people_in_memory=people_in_memory, restarts=restarts,
            private_epsilon=private_epsilon, private_delta=private_delta,
        )  # fmt: skip
        target = service_target(service, data_dir)
        train_in_service(target, domain, resume.name if resume else wanted, as_json)
        return
    files = {"events": events, "items": items, "users": users, "relations": relations}
    source = source_arguments(data_dir, features_target, dataset, path, files, reading)
    told = ["train"]
    if resume is not None:
        told += ["--resume", str(resume), *erasures_arguments(data_dir, features_target, address)]
    else:
        told += [*source(), "--promote", promote]
        held_out = held_out_arguments(held_out_share, held_out_users)
        told += model_arguments(
            preset, (adapter, adapter_settings), seed, pretrain_steps, meta_steps, held_out
        )
        told += private_arguments(private_epsilon, private_delta)
        told += [*place_arguments(data_dir, domain, address), *resource_arguments(workers, cpus, restarts)]
        told += ["--people-in-memory", str(people_in_memory)]
    told += cluster_arguments(address)
    result = follow(told, output.stderr())
    if as_json:
        output.print_json(result)
    else:
        print_trained(result, report_text(result), output.stdout(), where_published(result, data_dir))
        output.stdout().print(f"report: {result['report']['markdown']}", soft_wrap=True)


def evaluate(
    protocol: Annotated[
        Literal[
            "few-shot",
            "adaptation",
            "adapters",
            "new-items",
            "feedback",
            "leave-one-out",
            "rating",
            "private",
            "all",
        ],
        typer.Option(
            help="What to measure; adaptation: as served against fine-tuning the whole body; adapters: which "
            "wins on validation people; rating: stars; private: what differential privacy costs; all: all "
            "but adapters, leave-one-out, rating and private."
        ),
    ] = "few-shot",
    seeds: Annotated[int, typer.Option(help="Trainings of each arm.", min=1)] = 3,
    preset: Preset = "small",
    adapter: Adapter = "ridge",
    adapter_settings: AdapterSettings = "{}",
    seed: Seed = 0,
    pretrain_steps: Steps = 0,
    meta_steps: Steps = 0,
    private_delta: PrivateDelta = 1e-6,
    query_last: Annotated[
        int,
        typer.Option(
            help="few-shot: ask for everybody's last so many events, after up to 3 (short histories); "
            "0 = events 21 to 30 after up to 20.",
            min=0,
        ),
    ] = 0,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind",
            help="few-shot: also train models that are not told what people said of items, and compare the "
            "next liked items; takes twice as long.",
        ),
    ] = False,
    resume: Resume = None,
    data_run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Or the data of an earlier run.", rich_help_panel=DATA),
    ] = None,
    features_target: FeaturesTarget = "",
    dataset: DatasetName = "",
    path: DatasetPath = None,
    events: EventsFile = None,
    items: ItemsFile = None,
    users: UsersFile = None,
    relations: RelationsFile = None,
    mapping: Mapping_ = None,
    action: ActionName = "",
    time_unit: TimeUnitName = "",
    rating_scale: RatingScale = "1:5",
    separator: Separator = "|",
    held_out_users: HeldOutUsers = None,
    held_out_share: HeldOutShare = HELD_OUT_SHARE,
    workers: Workers = 1,
    cpus: Cpus = 0,
    side_by_side: SideBySide = 0,
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
    reading = Reading(mapping, action, time_unit, rating_scale, separator)
    files = {"events": events, "items": items, "users": users, "relations": relations}
    source = source_arguments(data_dir, features_target, dataset, path, files, reading)
    told = ["evaluate"]
    erasures = erasures_arguments(data_dir, features_target, address)
    if resume is not None:
        told += ["--resume", str(resume), *erasures]
    else:
        told += [f"--data-run={data_run}", *erasures] if data_run else source()
        told += ["--protocol", protocol, "--seeds", str(seeds), "--query-last", str(query_last)]
        held_out = held_out_arguments(held_out_share, held_out_users)
        told += model_arguments(
            preset, (adapter, adapter_settings), seed, pretrain_steps, meta_steps, held_out
        )
        told += private_arguments(None, private_delta)
        told += [*place_arguments(data_dir, domain, address), *resource_arguments(workers, cpus, restarts)]
        told += ["--side-by-side", str(side_by_side), *(["--blind"] if blind else [])]
    told += cluster_arguments(address)
    result = follow(told, output.stderr())
    if as_json:
        output.print_json(result)
        return
    console = output.stdout()
    print_report(str(result["markdown"]), console)
    console.print(f"{result['seconds']:g} s; report: {result['report']['markdown']}", soft_wrap=True)


def report_text(result: Mapping[str, Any]) -> str:
    """The report in Markdown, from the run's directory; where it is, if only a cluster sees that."""
    path = Path(result["report"]["markdown"])
    return path.read_text(encoding="utf-8") if path.is_file() else f"report, on the cluster: `{path}`"


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
