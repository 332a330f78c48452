"""Trainings on disk outlive the server that noted them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from services.training.options import parse
from services.training.service.store import TrainingStore
from services.training.service.training import ProcessMark, Result, Stage, State, Training
from services.training.settings import SourceSettings, TrainSettings
from shared.errors import SettingsError
from tests.unit.services.training.service.test_training import training


@pytest.fixture
def store(tmp_path: Path) -> TrainingStore:
    return TrainingStore(tmp_path / "runs")


def fresh(store: TrainingStore, **changes: object) -> Training:
    name = store.fresh_id()
    return training(training_id=name, run_directory=str(store.run(name).directory), **changes)


def test_what_is_noted_is_read_again(store: TrainingStore) -> None:
    settings = TrainSettings(
        SourceSettings(dataset="movielens-100k"), domain="shop", adapter_settings={"noise": 2.0}, seed=7
    )
    one = fresh(
        store,
        settings=settings,
        state=State.SUCCEEDED,
        stages=(Stage("pretrain", 3, 10, {"loss": 2.5}),),
        log=("hello",),
        result=Result(version="v1", reasons=("good",), metrics={"adaptation on": 0.5}),
        process=ProcessMark(7, 12.25),
        start_key="k",
        resume_keys=("k2",),
    )
    store.create(one)
    assert list(TrainingStore(store.run("").directory).load()) == [one]


def test_its_run_is_one_that_the_command_line_can_resume(store: TrainingStore) -> None:
    one = fresh(store, settings=TrainSettings(SourceSettings(dataset="movielens-100k"), seed=7))
    store.create(one)
    assert parse(["train", "--resume", one.run_directory]).settings == one.settings
    moved = replace(one, settings=replace(one.settings, registry="/elsewhere"))
    store.reopen(moved)
    assert parse(["train", "--resume", one.run_directory]).settings == moved.settings


def test_runs_of_the_command_line_and_damaged_notes_are_passed_over(store: TrainingStore) -> None:
    good, bad, newer = fresh(store), fresh(store), fresh(store)
    store.create(good)
    bad = replace(bad, training_id="bad")
    store.create(bad)
    (store.run("bad").directory / "training.json").write_text("{")
    newer = replace(newer, training_id="newer")
    store.create(newer)
    options = store.run("newer").directory / "run.json"
    options.write_text(json.dumps({**json.loads(options.read_text()), "of_a_later_version": 1}))
    store.run("by-hand").directory.mkdir()
    (store.run("by-hand").directory / "run.json").write_text("{}")
    assert [t.training_id for t in store.load()] == [good.training_id]


def test_ids_sort_by_time_and_are_of_nothing_that_is_there(store: TrainingStore) -> None:
    ids = []
    for _ in range(20):
        ids.append(store.fresh_id())
        store.run(ids[-1]).directory.mkdir(parents=True)
    assert ids == sorted(set(ids))


def test_a_run_that_is_finished_says_what_came_of_it(store: TrainingStore) -> None:
    one = fresh(store)
    store.create(one)
    assert store.result(one.training_id) is None
    directory = store.run(one.training_id).directory
    line = {
        "version": "v1", "promoted": True, "reasons": [], "metrics": {}, "people": 1, "seconds": 1.0,
        "report": {"markdown": str(directory / "report.md")},
    }  # fmt: skip
    (directory / "result.json").write_text(json.dumps(line))
    result = store.result(one.training_id)
    assert result is not None
    assert (result.version, result.report) == ("v1", "")
    (directory / "report.md").write_text("# Report")
    assert store.result(one.training_id) == replace(result, report="# Report")
    (directory / "result.json").write_text("{}")
    assert store.result(one.training_id) is None


def test_a_directory_has_one_holder(store: TrainingStore, tmp_path: Path) -> None:
    other = TrainingStore(tmp_path / "runs")
    assert store.try_hold() == ""
    assert other.try_hold() == f"process {os.getpid()}"
    store.let_go()
    assert other.try_hold() == ""
    other.let_go()


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="runs must be a directory that can be written"):
        TrainingStore(tmp_path / "file" / "runs").try_hold()
