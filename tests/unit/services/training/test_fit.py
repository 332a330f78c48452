"""What the driver tells of its workers, and what it makes of their end."""

from __future__ import annotations

import io
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from ray.train import ControllerError, WorkerGroupError

from services.training.cluster import ClusterSettings
from services.training.failures import PeerLost
from services.training.fit import TrainingFailed, WorkersLost, _outcome, cause, relay
from services.training.lines import Lines
from services.training.runs import Run
from shared.errors import InvalidInput


def told(run: Run, *writes: tuple[Path, str], side_by_side: int = 1) -> list[dict[str, Any]]:
    """The driver's lines after each of some writes to the run's files."""
    out = io.StringIO()
    with relay(run, ClusterSettings(restarts=1, side_by_side=side_by_side), Lines(out)) as pass_on:
        for path, text in writes:
            with path.open("a") as file:
                file.write(text)
            pass_on()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def step(number: int, job: str = "m", stage: str = "pretrain") -> str:
    return json.dumps({"job": job, "stage": stage, "step": number, "total": 9, "metrics": {}})


def test_what_an_earlier_run_said_is_not_told_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.progress.write_text(step(1) + "\n")
    said = told(run, (run.progress, step(2) + "\n" + step(3)), (run.progress, "\n"))
    assert [(line["event"], line.get("step")) for line in said] == [
        ("stage", None),
        ("progress", 2),
        ("progress", 3),
    ]


def test_stages_of_trainings_side_by_side_are_told_apart(tmp_path: Path) -> None:
    run = Run(tmp_path)
    steps = [step(1, "a"), step(1, "b"), step(2, "a"), step(1, "a", "meta-train"), step(2, "b")]
    said = told(run, *((run.progress, line + "\n") for line in steps), side_by_side=2)
    assert [(line.get("name") or line["stage"], line.get("step"), line.get("beside")) for line in said] == [
        ("pretrain a", None, True),
        ("pretrain a", 1, None),
        ("pretrain b", None, True),
        ("pretrain b", 1, None),
        ("pretrain a", 2, None),
        ("meta-train a", None, True),
        ("meta-train a", 1, None),
        ("pretrain b", 2, None),
    ]


def test_trainings_side_by_side_share_the_cores() -> None:
    cluster = ClusterSettings(workers=1, cpus=4, side_by_side=2)
    assert (cluster.all_workers, cluster.cpus_per_worker) == (2, 2)


def test_what_workers_say_in_words_is_logged(tmp_path: Path) -> None:
    run = Run(tmp_path)
    said = told(run, (run.progress, '{"message": "workers on a, b"}\n'))
    assert said == [{"event": "log", "message": "workers on a, b"}]


def test_half_a_line_of_a_worker_that_was_killed_costs_that_line_alone(tmp_path: Path) -> None:
    run = Run(tmp_path)
    said = told(run, (run.progress, step(2)[:20]), (run.progress, step(3) + "\n" + step(4) + "\n"))
    assert [line["step"] for line in said if line["event"] == "progress"] == [4]


def test_deaths_are_counted_against_the_restarts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    losses = [([3], True), ([1], False), ([0, 2], False)]
    notes = [json.dumps({"workers": who, "why": "killed", "preempted": free}) + "\n" for who, free in losses]
    assert [line["message"] for line in told(run, *((run.lost, note) for note in notes))] == [
        "worker 3 died (killed): all workers start again, from the newest checkpoint",
        "worker 1 died (killed): all workers start again, from the newest checkpoint (restart 1 of 1)",
        "workers 0 and 2 died (killed)",
    ]


def test_a_failed_training_tells_the_workers_own_error() -> None:
    own = ValueError("loss is NaN")
    assert cause(ControllerError(own)) is own
    assert cause(RuntimeError("of the controller")).args == ("of the controller",)


def test_deaths_without_restarts_left_are_told_as_such() -> None:
    lost = cause(WorkerGroupError("", {1: PeerLost("Socket closed")}))
    assert isinstance(lost, WorkersLost)
    assert str(lost) == "Socket closed, and no restarts are left"


@pytest.mark.parametrize(("workers", "cpus", "wanted"), [(2, 3, 6), (2, 0, 2)])
def test_workers_of_a_cluster_ask_for_their_cores(workers: int, cpus: int, wanted: int) -> None:
    cluster = ClusterSettings("auto", workers, cpus)
    assert cluster.workers * cluster.cpus_per_worker == wanted
    assert cluster.placement == "SPREAD"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first line\nno such episode"), "training failed: ValueError: no such episode"),
        (
            InvalidInput.of("steps", "must be at least 1", 0),
            "training failed: steps must be at least 1, got 0",
        ),
    ],
)
def test_of_a_failure_its_last_line_is_told_and_of_our_own_without_its_type(
    error: Exception, said: str
) -> None:
    future: Future[Any] = Future()
    future.set_exception(ControllerError(error))
    with pytest.raises(TrainingFailed) as failed:
        _outcome(future)
    assert str(failed.value) == said
