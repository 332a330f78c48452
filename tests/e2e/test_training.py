"""`python -m services.training train` on a real local Ray: interrupted, resumed, published."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from services.training.data import HeldOutItems, TrainingData
from services.training.evaluation.feedback import DISLIKE, LIKE, evaluate_feedback
from services.training.evaluation.new_items import evaluate_new_items
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.served import ServedArtifact
from services.training.prepare import load_prepared
from services.training.roles import RoleSettings
from services.training.runs import Run
from shared.artifacts import Registry
from shared.holdout import Role
from tests.traces import people_in, words_of_tables
from tests.unit.services.training import synthetic

Line = dict[str, Any]
_STEPS = ("--pretrain-steps", "60", "--meta-steps", "60")
_GONE_WITHIN_S = 20.0


@dataclass(frozen=True)
class Trained:
    """A run that was interrupted in pre-training and resumed."""

    run: Run
    registry: Registry
    interrupted_code: int
    interrupted: list[Line]
    left_behind: list[str]
    resumed_code: int
    resumed: list[Line]

    @property
    def result(self) -> Line:
        return self.resumed[-1]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.training", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def lines(process: subprocess.Popen[str]) -> Iterator[Line]:
    assert process.stdout is not None
    for text in process.stdout:
        yield json.loads(text)


def interrupt(process: subprocess.Popen[str], checkpoint: Path) -> tuple[int, list[Line], list[str]]:
    """Sends SIGINT once there is a checkpoint; exit code, lines, and the children that outlived it."""
    said: list[Line] = []
    family: list[psutil.Process] = []
    for line in lines(process):
        said.append(line)
        if line["event"] == "progress" and checkpoint.is_file() and not family:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
    code = process.wait()
    deadline = time.monotonic() + _GONE_WITHIN_S
    while alive := [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return code, said, [" ".join(p.cmdline()) for p in alive]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("training")
    files = synthetic.write_files(directory, people=100, events=34, items=100)
    run = Run(directory / "run")
    registry = directory / "registry"
    options = ["train", "--events", str(files["events"]), "--items", str(files["items"]), "--preset", "tiny"]
    where = ["--domain", "shop", "--registry", str(registry), "--run-dir", str(run.directory)]
    checkpoint = run.jobs / "model" / "checkpoints" / "pretrain.npz"
    with start(*options, *_STEPS, *where) as process:
        code, said, left = interrupt(process, checkpoint)
    with start("train", "--resume", str(run.directory)) as process:
        resumed = list(lines(process))
    return Trained(run, Registry(registry), code, said, left, process.returncode, resumed)


@pytest.fixture(scope="module")
def data(trained: Trained) -> TrainingData:
    return load_prepared(trained.run.snapshot, trained.run.prepared, RoleSettings())


@pytest.fixture(scope="module")
def served(trained: Trained) -> ServedArtifact:
    champion = trained.registry.champion("shop")
    assert champion is not None
    return ServedArtifact.load(trained.registry.open(champion))


# A training that nobody stops is walked through by test_trained_cluster.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_sigint_ends_the_run_with_130_and_no_process_is_left(trained: Trained) -> None:
    assert trained.interrupted_code == 130
    assert trained.interrupted[-1]["event"] == "error"
    assert "--resume" in trained.interrupted[-1]["message"]
    assert trained.left_behind == []


def test_a_resumed_run_goes_on_where_it_stopped(trained: Trained) -> None:
    assert trained.resumed_code == 0, trained.resumed[-1]
    assert "snapshot" not in [line.get("name") for line in trained.resumed]
    steps = [line["step"] for line in trained.resumed if line.get("stage") == "pretrain"]
    assert steps[0] > 7, "it began anew"
    assert steps[-1] == 60


def test_the_stages_follow_one_another_and_each_tells_its_progress(trained: Trained) -> None:
    stages = [line["name"] for line in trained.resumed if line["event"] == "stage"]
    assert stages == ["prepare", "pretrain", "meta-train", "adapt-on", "evaluate", "publish"]
    told = [line for line in trained.resumed if line["event"] == "progress"]
    assert {line["stage"] for line in told} == {"pretrain", "meta-train", "adapt-on", "evaluate"}
    assert all(np.isfinite(line["metrics"]["loss"]) for line in told if line["stage"] != "evaluate")
    assert trained.result["event"] == "result"


def test_the_first_model_is_champion_because_it_beats_popularity(trained: Trained) -> None:
    result = trained.result
    assert result["promoted"], result["reasons"]
    assert trained.registry.champion("shop").version == result["version"]  # type: ignore[union-attr]
    assert result["metrics"]["adaptation on"] > result["metrics"]["popularity"]
    assert "beats popularity" in result["reasons"][0]
    metrics = trained.registry.manifest(trained.registry.champion("shop")).metrics  # type: ignore[arg-type]
    assert metrics["ndcg10"] == pytest.approx(result["metrics"]["adaptation on"])
    assert Path(result["report"]["plot"]).is_file()


def test_no_event_of_a_held_out_person_was_trained_on(trained: Trained, data: TrainingData) -> None:
    manifest = trained.registry.manifest(trained.registry.champion("shop"))  # type: ignore[arg-type]
    seen = data.without_held_out()
    assert 0 < seen.num_users < data.num_users
    assert manifest.data.events == seen.num_events
    assert manifest.data.users == seen.num_users


def test_one_event_of_feedback_moves_the_items_around_it(served: ServedArtifact, data: TrainingData) -> None:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    disliked, liked = evaluate_feedback(data, questions, served, (DISLIKE, LIKE), task="next")
    assert disliked.change.mean > liked.change.mean


def test_an_item_added_by_text_is_scored_like_any_other(served: ServedArtifact, data: TrainingData) -> None:
    kind = data.content[::4][:3]  # texts of items that exist, under new names
    none = np.zeros(0, np.int32)
    new = HeldOutItems(
        ("new-0", "new-1", "new-2"),
        ("", "", ""),
        kind,
        none,
        none,
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
    )
    result = evaluate_new_items(data, new, served, task="next")
    assert result.items == 3
    assert 0.0 <= result.fitting <= 1.0


def test_a_published_model_holds_nobody(trained: Trained, data: TrainingData) -> None:
    assert len(data.user_ids) == 100
    champion = trained.registry.champion("shop")
    assert champion is not None
    version = trained.registry.root / "shop" / champion.version
    assert set(data.item_ids) <= words_of_tables(version)
    assert people_in(version, data.user_ids) == set()
    assert set(data.user_ids) <= words_of_tables(trained.run.snapshot), "kept apart, it has them"
