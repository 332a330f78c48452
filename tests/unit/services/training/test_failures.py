"""Which failures of workers a run outlives."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from services.training.failures import PeerLost, RestartAfterDeaths, telling_what_failed, why
from services.training.jobs import StopRequested

_DEATH = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
    "Some common causes include: (1) the process was killed by the OOM killer"
)


def death() -> Exception:
    """As Ray Train's controller sees a worker that was killed."""
    return WorkerHealthCheckFailedError(
        "A worker health check failed.", RayActorError(None, f"Died.\n{_DEATH}")
    )


def after(tmp_path: Path, *errors: tuple[int, Exception]) -> list[dict[str, object]]:
    """What the driver finds after the controller has heard of errors by worker."""
    notes = tmp_path / "lost.jsonl"
    RestartAfterDeaths(notes).after_exception(None, dict(errors))
    return [json.loads(line) for line in notes.read_text().splitlines()]


def test_a_death_is_noted_and_lets_the_workers_start_again(tmp_path: Path) -> None:
    detail = "Worker unexpectedly exits with a connection error code 2. End of file."
    assert after(tmp_path, (1, death())) == [{"workers": [1], "why": detail, "preempted": False}]


def test_who_was_left_alone_by_a_death_is_not_counted_as_dead(tmp_path: Path) -> None:
    """The survivor's all-reduce may fail before the death itself is seen, or together with it."""
    alone = (0, PeerLost("Socket closed"))
    assert after(tmp_path, alone, (1, death()))[0]["workers"] == [1]
    assert after(tmp_path, alone)[1] == {"workers": [0], "why": "Socket closed", "preempted": False}


def test_a_loss_is_noted_once_however_often_the_controller_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice a second while a machine is taken back; the next death of a worker comes later than that."""
    notes = tmp_path / "lost.jsonl"
    callback = RestartAfterDeaths(notes)
    for now_s in (100.0, 100.5, 101.0, 150.0):
        monkeypatch.setattr("time.monotonic", lambda now_s=now_s: now_s)
        callback.after_exception(None, {1: death()})
    assert len(notes.read_text().splitlines()) == 2


def test_a_machine_that_is_taken_back_is_noted_as_such(tmp_path: Path) -> None:
    gone = RayActorError(None, "The node was preempted.", preempted=True)
    assert after(tmp_path, (1, WorkerHealthCheckFailedError("", gone)))[0]["preempted"] is True


@pytest.mark.parametrize("error", [ValueError("loss is NaN"), StopRequested()], ids=["failed", "stopped"])
def test_what_training_raises_ends_the_run(tmp_path: Path, error: Exception) -> None:
    """Also where the other worker, left alone, fails with it."""
    with pytest.raises(type(error)):
        after(tmp_path, (0, PeerLost("Socket closed")), (1, error))
    assert not (tmp_path / "lost.jsonl").exists()


def test_a_loss_without_a_word_is_told_by_its_kind() -> None:
    assert why({0: PeerLost()}) == "PeerLost"


def test_an_all_reduce_whose_other_end_is_gone_is_no_error_of_ours() -> None:
    tf = pytest.importorskip("tensorflow")
    gone = tf.errors.UnavailableError(None, None, "Connection reset by peer")
    with pytest.raises(PeerLost, match="Connection reset by peer"), telling_what_failed(workers=2):
        raise gone
    with pytest.raises(tf.errors.UnavailableError), telling_what_failed(workers=1):
        raise gone


def test_an_error_brings_along_where_it_was_raised() -> None:
    """Ray pickles the error alone; the driver's log shall show its traceback."""
    pytest.importorskip("tensorflow")

    def training_step() -> None:
        raise ValueError("loss is NaN")

    with pytest.raises(ValueError, match="loss is NaN") as failed, telling_what_failed(workers=2):
        training_step()
    (note,) = pickle.loads(pickle.dumps(failed.value)).__notes__  # noqa: S301 - our own
    assert "in training_step" in note
