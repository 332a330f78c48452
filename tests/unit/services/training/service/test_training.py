"""What a training's lines make of it."""

from __future__ import annotations

import pytest

from services.training.service.training import (
    LOG_LINES,
    LogLine,
    Places,
    Result,
    Stage,
    State,
    Training,
    told,
    update_of,
)
from services.training.settings import SourceSettings, TrainSettings

HERE = Places("/registry", "127.0.0.1:1", "")


def training(**changes: object) -> Training:
    fields: dict[str, object] = {
        "training_id": "t1",
        "run_directory": "/runs/t1",
        "settings": TrainSettings(SourceSettings(features_target="127.0.0.1:1")),
        "state": State.RUNNING,
        "created_ms": 1,
        "started_ms": 1,
    }
    return Training(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_line_becomes_an_update_without_what_is_no_number() -> None:
    line = {"event": "progress", "stage": "pretrain", "step": 3, "total": 10, "metrics": {"a": 1, "b": None}}
    assert update_of(line) == Stage("pretrain", 3, 10, {"a": 1.0})
    assert update_of({"event": "stage", "name": "publish"}) == Stage("publish")
    assert update_of({"event": "log", "message": "hello"}) == LogLine("hello")
    assert update_of({"event": "something later versions say"}) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"step": float("inf")},
        {"total": 10**30},
        {"metrics": [1]},
        {"metrics": {"a": 10**400}},
        {"step": None},
    ],
)
def test_a_line_that_no_message_can_hold_is_refused(changes: dict[str, object]) -> None:
    line = {"event": "progress", "stage": "pretrain", "step": 3, "total": 10, "metrics": {}}
    with pytest.raises((TypeError, ValueError)):
        update_of({**line, **changes})


def test_half_a_character_becomes_a_question_mark() -> None:
    assert update_of({"event": "log", "message": "\ud800!"}) == LogLine("?!")


def test_a_stage_is_as_far_as_it_was_last_told_and_keeps_its_place() -> None:
    one = training()
    for update in (Stage("prepare"), Stage("pretrain"), Stage("pretrain", 5, 10), Stage("evaluate")):
        one = told(one, update)
    assert one.stages == (Stage("prepare"), Stage("pretrain", 5, 10), Stage("evaluate"))


def test_the_latest_lines_are_kept() -> None:
    one = training()
    for number in range(LOG_LINES + 2):
        one = told(one, LogLine(str(number)))
    assert one.log == tuple(str(n) for n in range(2, LOG_LINES + 2))


def test_a_result_line_becomes_a_result() -> None:
    line = {
        "event": "result", "run": "/r", "version": "v1", "domain": "shop", "promoted": False,
        "reasons": ["too bad"], "metrics": {"adaptation on": 0.5, "popularity": None}, "people": 3,
        "report": {"markdown": "/r/report.md"}, "seconds": 2.5,
    }  # fmt: skip
    assert Result.of(line, "text") == Result(
        version="v1",
        reasons=("too bad",),
        metrics={"adaptation on": 0.5},
        people=3,
        seconds=2.5,
        report_files={"markdown": "/r/report.md"},
        report="text",
    )


def test_places_are_the_servers_and_data_sets_the_callers() -> None:
    """A server that was started anew, on other ports, goes on with what an earlier one began."""
    before = TrainSettings(SourceSettings(features_target="gone:1"), registry="/gone", address="ray://gone:1")
    after = HERE.applied(before)
    assert (after.source.features_target, after.registry, after.address) == ("127.0.0.1:1", "/registry", "")
    named = TrainSettings(SourceSettings(dataset="movielens-1m", dataset_path="/ml"), registry="/gone")
    assert HERE.applied(named).source == named.source
