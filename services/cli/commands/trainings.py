"""`warmstart trainings list|watch|stop`, and `warmstart train` in the training service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import ParseDict
from warmstart.training.v1 import training_service_pb2 as pb

from services.cli import options, output
from services.cli.failures import CommandError
from services.cli.target import service_target
from services.cli.training.clients import TrainingClient, open_training
from services.cli.training.following import follow_training, result_of, state_word
from services.cli.training.printing import print_trained

LIST_EXAMPLES = options.examples("warmstart trainings list", "warmstart trainings list -n 5 --json")
WATCH_EXAMPLES = options.examples(
    "warmstart trainings watch", "warmstart trainings watch 20260101T120000.000Z"
)
STOP_EXAMPLES = options.examples("warmstart trainings stop 20260101T120000.000Z")
_DEFAULT_PAGE = 20

TrainingId = Annotated[str, typer.Argument(help="A training's id, from `warmstart trainings list`.")]


def list_(
    page_size: Annotated[
        int, typer.Option("-n", "--page-size", help="How many.", min=1, max=500)
    ] = _DEFAULT_PAGE,
    page_token: Annotated[str, typer.Option(help="The next page of an earlier answer.")] = "",
    as_json: options.Json = False,
    service: options.Service = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Trainings of the training service, newest first."""

    async def run() -> pb.ListTrainingsResponse:
        async with open_training(service_target(service, data_dir), domain) as client:
            return await client.trainings(page_size, page_token)

    response = asyncio.run(run())
    if as_json:
        output.print_json(response)
        return
    identity = output.Column("training", wrap=False)  # to be copied
    columns = (
        identity,
        "state",
        "started (UTC)",
        "took",
        "data",
        "preset",
        "adapter",
        "version",
        "stage",
    )
    rows = [_row(training) for training in response.trainings]
    console = output.stdout()
    console.print(output.table(f"Trainings of domain {domain}", columns, rows))
    if response.next_page_token:
        console.print(f"next page: --page-token {response.next_page_token}", soft_wrap=True)


def watch(
    training_id: Annotated[str, typer.Argument(help="A training's id; by default the newest.")] = "",
    as_json: options.Json = False,
    service: options.Service = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Follow a training until it ends, and print what it came to. Ctrl-C leaves it running."""
    target = service_target(service, data_dir)
    where = f" --service {options.LOCAL}{options.same_place(data_dir)}"
    if service not in ("", options.LOCAL):
        where = f" --service {service}"
    where += "" if domain == options.DOMAIN else f" --domain {domain}"
    follow_to_result(target, domain, training_id or _newest(target, domain, where), as_json)


def stop(
    training_id: TrainingId,
    as_json: options.Json = False,
    service: options.Service = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Ask a training to stop; it keeps a checkpoint, and `warmstart train --resume` goes on with it."""

    async def run() -> pb.Training:
        async with open_training(service_target(service, data_dir), domain) as client:
            return await client.stop(training_id)

    training = asyncio.run(run())
    if as_json:
        output.print_json(training)
    else:
        output.stdout().print(f"{training_id} is {state_word(training)}")


def train_in_service(target: str, domain: str, wanted: pb.TrainingOptions | str, as_json: bool) -> None:
    """Starts a training there, or goes on with the one of this id, and follows it."""

    async def start() -> str:
        async with open_training(target, domain) as client:
            return await (client.resume(wanted) if isinstance(wanted, str) else client.start(wanted))

    training_id = asyncio.run(start())
    output.stderr().print(f"training {training_id} in {target}; Ctrl-C leaves it running", soft_wrap=True)
    follow_to_result(target, domain, training_id, as_json)


def follow_to_result(target: str, domain: str, training_id: str, as_json: bool) -> None:
    training = follow_training(target, domain, training_id, output.stderr())
    where = TrainingClient(target, domain, None).where
    result = result_of(training, where)
    if as_json:
        output.print_json(result)
    else:
        print_trained(result, training.result.report, output.stdout(), where)


def wanted_training(
    *, dataset: str, path: str, adapter_settings: str, promote: str, **options_: Any
) -> pb.TrainingOptions:
    """The command line's options as the service takes them; those left are named alike.

    Raises BadParameter where the adapter's settings are no JSON object.
    """
    policy = pb.PromotePolicy.Value(f"PROMOTE_POLICY_{promote.upper()}")
    wanted = pb.TrainingOptions(promote=policy, **options_)
    if dataset or path:
        wanted.dataset.name, wanted.dataset.path = dataset, path
    try:
        settings = json.loads(adapter_settings)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f"--adapter-settings must be JSON ({error}), got {adapter_settings!r}"
        ) from error
    if not isinstance(settings, dict):
        raise typer.BadParameter(f"--adapter-settings must be a JSON object, got {adapter_settings!r}")
    if settings:
        ParseDict(settings, wanted.adapter_settings)
    return wanted


def refuse_local(given: Mapping[str, object]) -> None:
    """Raises BadParameter for options that mean this machine, or that the service's own settings say."""
    named = [name for name, value in given.items() if value]
    if named:
        raise typer.BadParameter(
            f"{', '.join(named)} cannot be given with --service: a training there reads its own feature "
            "service, or a known data set by --dataset and --path on its own machine"
        )


def _newest(target: str, domain: str, where: str) -> str:
    """Of the service: those of `warmstart train` alone are not in it."""

    async def run() -> pb.ListTrainingsResponse:
        async with open_training(target, domain) as client:
            return await client.trainings(1)

    found = asyncio.run(run()).trainings
    if not found:
        raise CommandError(
            f"domain {domain!r} has no training in {target}: start one with `warmstart train{where}`"
        )
    return found[0].training_id


def _row(training: pb.Training) -> tuple[str, ...]:
    stage = training.stages[-1] if training.stages else pb.StageProgress()
    done = f"{stage.stage} {stage.step}/{stage.total}" if stage.total else stage.stage
    return (
        training.training_id,
        state_word(training),
        _moment(training.started_ms).strftime("%Y-%m-%d %H:%M:%S"),
        _took(training),
        training.options.dataset.name or "feature service",
        training.options.preset,
        training.options.adapter,
        training.result.version + (" (promoted)" if training.result.promoted else ""),
        done,
    )


def _took(training: pb.Training) -> str:
    if not training.ended_ms:
        return ""
    return f"{(training.ended_ms - training.started_ms) / 1000:,.0f} s"


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
