"""A training in the training service, followed as a process of one's own is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from rich.console import Console
from warmstart.training.v1 import training_service_pb2 as pb

from services.cli import output
from services.cli.failures import CommandError
from services.cli.training.clients import TrainingClient, open_training
from services.cli.training.progress import StageBars
from shared.errors import Unavailable


def follow_training(target: str, domain: str, training_id: str, console: Console) -> pb.Training:
    """Shows its bars until it ends; the training as it ended then.

    An interrupt leaves it running, and says how to watch it again. Raises CommandError where the service
    goes away meanwhile.
    """

    async def follow(bars: StageBars) -> pb.Training:
        async with open_training(target, domain) as client:
            return await _follow(client, training_id, bars)

    try:
        with StageBars(console) as bars:
            return asyncio.run(follow(bars))
    except KeyboardInterrupt:
        where = TrainingClient(target, domain, None).where
        for what, command in (("goes on; watch it with", "watch"), ("stop it with", "stop")):
            line = f"{what}: warmstart trainings {command} {training_id}{where}"
            console.print(output.escaped(line), soft_wrap=True)
        raise


async def _follow(client: TrainingClient, training_id: str, bars: StageBars) -> pb.Training:
    last: pb.Training | None = None
    try:
        async with aclosing(client.watch(training_id)) as updates:
            async for update in updates:
                for line in _lines_of(update, first=last is None):
                    bars.show(line)
                if update.HasField("training"):
                    last = update.training
    except Unavailable as error:
        if last is None:  # it never was there
            raise
        raise CommandError(_gone(error, client, training_id)) from error
    if last is None:
        raise CommandError(f"the training service said nothing of training {training_id}")
    return last


def _gone(error: Unavailable, client: TrainingClient, training_id: str) -> str:
    """What to do where the service went away: a training ends with its server, and goes on where it was."""
    return "\n".join(
        [
            f"the training service went away: {error}",
            f"training service: {client.target}; start it again (`warmstart up` does), then look at the "
            f"training with: warmstart trainings watch {training_id}{client.where}",
            resume_hint(training_id, client.where),
        ]
    )


def _lines_of(update: pb.WatchTrainingResponse, *, first: bool) -> Iterator[dict[str, Any]]:
    """As the training process says them."""
    match update.WhichOneof("update"):
        case "progress":
            yield _progress(update.progress)
        case "log":
            yield {"event": "log", "message": update.log}
        case "training" if first:
            yield from ({"event": "log", "message": message} for message in update.training.log)
            yield from map(_progress, update.training.stages)
        case "training" if update.training.state == pb.TRAINING_STATE_STOPPING:
            yield {"event": "log", "message": "stopping"}


def _progress(stage: pb.StageProgress) -> dict[str, Any]:
    counts = {"step": stage.step, "total": stage.total, "metrics": dict(stage.metrics)}
    return {"event": "progress", "stage": stage.stage, **counts}


def result_of(training: pb.Training, where: str) -> dict[str, Any]:
    """As the training process's result, with the training's id. where: see `TrainingClient.where`.

    Raises CommandError where it did not succeed, with why and how to go on.
    """
    if training.state != pb.TRAINING_STATE_SUCCEEDED:
        state = state_word(training)
        lines = [training.error or f"training {training.training_id} was {state}"]
        if not training.settings_refused:
            lines += [resume_hint(training.training_id, where)]
        raise CommandError("\n".join(lines))
    result = training.result
    return {
        "training_id": training.training_id,
        "run": training.run_directory,
        "version": result.version,
        "domain": training.domain,
        "promoted": result.promoted,
        "reasons": list(result.reasons),
        "metrics": dict(result.metrics),
        "people": result.people,
        "report": dict(result.report_files),
        "seconds": result.seconds,
    }


def resume_hint(training_id: str, where: str) -> str:
    return f"go on with: warmstart train --resume {training_id}{where}"


def state_word(training: pb.Training) -> str:
    """For people: running, succeeded, …"""
    return pb.TrainingState.Name(training.state).removeprefix("TRAINING_STATE_").lower()
