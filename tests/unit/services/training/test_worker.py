"""A job: pre-training, arms, checkpoints, exports; and going on after an interruption exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.cost import Cost, together
from services.training.data import TrainingData
from services.training.jobs import Arm, Job, Plan, StopRequested
from services.training.loop import TrainState
from services.training.publish import publish
from services.training.roles import RoleSettings
from services.training.worker import Reporter, do_job, is_exported
from shared.artifacts import Registry
from tests.traces import people_in, words_of_tables
from tests.unit.services.training import synthetic

ON, OFF = Arm("on", "ridge"), Arm("off", "none")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(
        synthetic.tables(people=60, events=34, items=80), RoleSettings(0.2, 0.3)
    ).without_held_out()


def job(directory: Path, *arms: Arm) -> Job:
    return Job("model", directory / "job", 0, "tiny", arms, pretrain_steps=16, meta_steps=30)


def plan(directory: Path, *jobs: Job) -> Plan:
    return Plan(jobs, directory / "progress.jsonl", directory / "stop", directory / "tensorboard", 1)


def run(directory: Path, data: TrainingData, *arms: Arm, stop_after: tuple[str, int] | None = None) -> Job:
    """Does a job in this process; where asked, is told to stop after a step."""
    work = job(directory, *arms)

    class Stops(Reporter):
        def progress(self, job: Job, stage: str, step: int, total: int, metrics: object) -> None:
            super().progress(job, stage, step, total, metrics)  # type: ignore[arg-type]
            if stop_after is not None and stage == stop_after[0] and step >= stop_after[1]:
                told.stop.touch()

    told = plan(directory, work)
    told.stop.unlink(missing_ok=True)
    with Stops(told, writes=True) as reporter:
        do_job(work, data, None, reporter)
    return work


def rows(work: Job, arm: Arm) -> dict[str, np.ndarray]:
    return {p.stem: np.load(p) for p in (work.export(arm) / "rows").glob("*.npy")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> tuple[Path, Job]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(directory, data, ON)


def test_an_export_is_a_version_that_opens(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    _, work = whole
    assert is_exported(work, ON)
    registry = Registry(tmp_path)
    ref = publish(registry, "shop", work.export(ON), {"ndcg10": 0.5})
    artifact = registry.open(ref)
    assert artifact.item_ids == data.item_ids
    assert artifact.manifest.metrics["ndcg10"] == 0.5
    assert artifact.manifest.data.events == data.num_events
    assert artifact.manifest.adapter.name == "ridge"
    assert {"tensorflow", "ray", "numpy"} <= set(artifact.manifest.libraries)
    assert [i.title for i in artifact.vocabulary()] == list(data.titles)


def test_a_version_holds_nobody(whole: tuple[Path, Job], tmp_path: Path, data: TrainingData) -> None:
    """Rows, counts and transitions of items, and weights."""
    _, work = whole
    ref = publish(Registry(tmp_path), "shop", work.export(ON), {"ndcg10": 0.5})
    version = tmp_path / "shop" / ref.version
    assert set(data.item_ids) <= words_of_tables(version)
    assert people_in(version, data.user_ids) == set()


def test_progress_is_told_line_by_line_and_to_tensorboard(whole: tuple[Path, Job]) -> None:
    directory, _ = whole
    told = [json.loads(line) for line in (directory / "progress.jsonl").read_text().splitlines()]
    assert {t["stage"] for t in told} == {"pretrain", "meta-train", "adapt-on"}
    last = [t for t in told if t["stage"] == "pretrain"][-1]
    assert (last["job"], last["step"], last["total"]) == ("model", 16, 16)
    assert np.isfinite(last["metrics"]["loss"])
    assert list((directory / "tensorboard" / "model").iterdir())


def assert_same_ending(resumed: Job, whole: Job) -> None:
    found = rows(resumed, ON)
    for name, expected in rows(whole, ON).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)


@pytest.mark.slow  # the stages share one loop: test_pretrain keeps the short form of it
def test_an_interrupted_meta_training_ends_as_if_it_had_not_been(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    work = job(tmp_path, ON)
    work.directory.mkdir(parents=True)
    shutil.copy(whole[1].done("pretrain"), work.done("pretrain"))
    # The validation at step 20 lies before the interruption: what was best then must not be forgotten.
    with pytest.raises(StopRequested):
        run(tmp_path, data, ON, stop_after=("meta-train", 24))
    assert TrainState.load(work.checkpoint("meta-train")).step == 25  # kept because it was stopped
    assert not is_exported(work, ON)
    assert_same_ending(run(tmp_path, data, ON), whole[1])


@pytest.mark.slow
def test_an_interrupted_adapter_ends_as_if_it_had_not_been(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    work = job(tmp_path, ON)
    work.directory.mkdir(parents=True)
    for stage in ("pretrain", "meta-train"):
        shutil.copy(whole[1].done(stage), work.done(stage))
    with pytest.raises(StopRequested):
        run(tmp_path, data, ON, stop_after=("adapt-on", 5))
    assert TrainState.load(work.checkpoint("adapt-on")).step == 5
    assert not is_exported(work, ON)
    assert_same_ending(run(tmp_path, data, ON), whole[1])


@pytest.mark.slow
def test_an_interrupted_pre_training_ends_as_if_it_had_not_been(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    with pytest.raises(StopRequested):
        run(tmp_path, data, ON, stop_after=("pretrain", 10))
    assert not job(tmp_path, ON).done("pretrain").is_file()
    assert_same_ending(run(tmp_path, data, ON), whole[1])


@pytest.mark.slow
def test_both_arms_stand_on_one_body_and_a_finished_job_is_not_done_again(
    whole: tuple[Path, Job], data: TrainingData
) -> None:
    directory, work = whole
    kept = (work.done("pretrain"), work.done("meta-train"), work.export(ON) / "draft.json")
    before = [path.stat().st_mtime_ns for path in kept]
    both = run(directory, data, ON, OFF)
    assert is_exported(both, OFF)
    assert json.loads((both.export(OFF) / "draft.json").read_text())["adapter"]["name"] == "none"
    assert before == [path.stat().st_mtime_ns for path in kept]


def test_transitions_go_with_an_adapter_and_not_without_one(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    _, with_adapter = whole
    without = job(tmp_path, OFF)
    without.directory.mkdir(parents=True)
    for stage in ("pretrain", "meta-train"):
        shutil.copy(with_adapter.done(stage), without.done(stage))
    run(tmp_path, data, OFF)
    on, off = (
        json.loads((work.export(arm) / "draft.json").read_text())["dims"]
        for work, arm in ((with_adapter, ON), (without, OFF))
    )
    assert on["successors"] > 0
    assert (rows(with_adapter, ON)["successors"] >= 0).any(axis=1).mean() > 0.5
    assert (off["successors"], off["trail"], off["output"]) == (0, 0, on["output"] - 1)
    assert "successors" not in rows(without, OFF)


def test_a_resumed_stage_costs_what_all_its_starts_did(tmp_path: Path) -> None:
    """Ten seconds before the interruption, and 10 TB, which this process does not hold."""
    state = TrainState("pretrain", 3, {"a": np.zeros(2)}, Cost({"seconds": 10.0}).figures())
    state.save(tmp_path / "state.npz")
    before = TrainState.load(tmp_path / "state.npz").figures
    assert 10.0 <= before["seconds"] < 11.0
    assert before["peak_memory_mb"] > 1.0
    after = Cost({**before, "peak_memory_mb": 1e7}).figures()
    assert after["seconds"] >= before["seconds"]
    assert after["peak_memory_mb"] == 1e7


def test_figures_of_stages_are_named_by_them_and_memory_is_the_most() -> None:
    stages = {
        "pretrain": {"loss": 3.0, "seconds": 5.0, "peak_memory_mb": 700.0},
        "adapt": {"seconds": 2.0, "peak_memory_mb": 500.0},
        "none": {},
    }
    expected = {"pretrain_loss": 3.0, "pretrain_seconds": 5.0, "adapt_seconds": 2.0, "peak_memory_mb": 700.0}
    assert together(stages) == expected
    assert together({}) == {}
