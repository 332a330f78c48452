"""What a training's directory holds, and what its process says: notes, results, lines."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random

from pydantic import TypeAdapter

from services.training.noted import noted, noted_source
from services.training.service.codec import encode_training
from services.training.service.store import TrainingStore
from services.training.service.training import LogLine, Stage, State, Training, told, update_of
from services.training.settings import SourceSettings, TrainSettings
from shared.errors import InvalidInput
from shared.processes.trainer import parse_line
from tests.fuzz.targets.artifacts import json_mutation
from tests.fuzz.targets.base import Target, scratch

_SETTINGS = TrainSettings(
    SourceSettings(dataset="movielens-100k"), adapter="gradient", adapter_settings={"steps": 2}
)
_RESULT = {
    "version": "1", "promoted": True, "reasons": ["better"], "metrics": {"on": 0.2, "none": None},
    "people": 7,
    "report": {"markdown": "/nowhere/report.md"}, "seconds": 1.5,
}  # fmt: skip


@cache
def _run() -> Path:
    run = scratch() / "runs" / "one"
    run.mkdir(parents=True)
    return run


@cache
def _store() -> TrainingStore:
    _run()
    return TrainingStore(scratch() / "runs")


@cache
def _training() -> Training:
    return Training(
        training_id="one", run_directory=str(_run()), settings=_SETTINGS, state=State.FAILED, created_ms=1,
        started_ms=2, ended_ms=3, stages=(Stage("pretrain", 3, 10, {"loss": 2.5}),), log=("begun",),
        error="it fell",
    )  # fmt: skip


def _options() -> bytes:
    return json.dumps({"command": "train", **_SETTINGS.as_dict()}).encode()


def _noted(case: bytes) -> None:
    (_run() / "run.json").write_bytes(case)
    noted_source(_run(), "--data-run")
    noted(_run())


def _stored(case: bytes) -> None:
    """A damaged record is passed over; one that is read can be shown and written."""
    (_run() / "run.json").write_bytes(_options())
    (_run() / "training.json").write_bytes(case)
    found = list(_store().load())
    for training in found:
        encode_training(training).SerializeToString()
    if not found:
        raise InvalidInput.of("training.json", "must be a training's record", case[:80])


def _finished(case: bytes) -> None:
    (_run() / "result.json").write_bytes(case)
    result = _store().result("one")
    if result is None:
        raise InvalidInput.of("result.json", "must be a result", case[:80])
    from dataclasses import replace

    encode_training(replace(_training(), result=result)).SerializeToString()


def _said(case: bytes) -> None:
    """As the service's attendant follows a process: what it does not understand ends the process."""
    training = _training()
    for line in case.decode("utf-8", "replace").splitlines():
        try:
            update = update_of(parse_line(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput.of("line", f"must be understood ({error})", line) from error
        if isinstance(update, Stage | LogLine):
            training = told(training, update)
    encode_training(training).SerializeToString()


def _lines() -> list[bytes]:
    lines = (
        {"event": "stage", "name": "pretrain"},
        {
            "event": "progress",
            "stage": "pretrain",
            "step": 3,
            "total": 10,
            "metrics": {"loss": 2.5, "norm": None},
        },
        {"event": "log", "message": "hello"},
    )
    return [json.dumps(line).encode() for line in lines]


def _line_mutation(case: bytes, rng: Random) -> bytes:
    return json_mutation(case.splitlines()[0] if case else b"{}", rng)


def _records() -> list[bytes]:
    whole = TypeAdapter(Training).dump_json(_training(), exclude={"settings", "run_directory"})
    return [whole, whole.replace(b'"result":null', b'"result":' + json.dumps(_RESULT).encode())]


TARGETS = (
    Target("run-json", _noted, lambda: [_options()], json_mutation, max_bytes=20_000),
    Target("training-json", _stored, _records, json_mutation, max_bytes=20_000),
    Target("result-json", _finished, lambda: [json.dumps(_RESULT).encode()], json_mutation),
    Target("trainer-lines", _said, _lines, _line_mutation),
)
