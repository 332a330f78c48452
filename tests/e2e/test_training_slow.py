"""Trainings that take minutes: two data-parallel workers, a whole evaluation. `pytest -m slow` runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.artifacts import Registry
from tests.unit.services.training import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
_STEPS = ("--pretrain-steps", "40", "--meta-steps", "40", "--preset", "tiny")
_BASELINES = ("popularity", "item-kNN", "sequential rules")
_COMPARED = (*_BASELINES, "popular of late", "re-encoding", "re-encoding + 0.3 kNN")
_PARTS = ("fast weights alone", "on, without trends")


def run(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "services.training", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, said[-1]
    return said


def data_options(directory: Path) -> list[str]:
    files = synthetic.write_files(directory, people=100, events=34, items=100)
    return ["--events", str(files["events"]), "--items", str(files["items"])]


def test_two_workers_train_as_one_does(tmp_path: Path) -> None:
    """Each step's batch is split between them, so the losses of a step agree up to dropout's noise, and lists
    for strangers are as good. (Without noise weights agree: `tests/integration/training/test_workers.py`.)"""
    source = data_options(tmp_path)
    losses, quality = {}, {}
    for workers in ("1", "2"):
        where = ["--registry", str(tmp_path / "registry"), "--run-dir", str(tmp_path / workers)]
        said = run("train", *source, *_STEPS, *where, "--workers", workers, "--promote", "always")
        told = [s for s in said if s.get("stage") == "pretrain" and s["event"] == "progress"]
        losses[workers] = told[-1]["metrics"]["loss"]
        quality[workers] = said[-1]["metrics"]
    assert np.isclose(losses["1"], losses["2"], rtol=0.1)
    assert np.isclose(quality["1"]["adaptation on"], quality["2"]["adaptation on"], atol=0.03)
    assert all(found["adaptation on"] > found["popularity"] + 0.1 for found in quality.values())
    registry = Registry(tmp_path / "registry")
    assert len(registry.versions("default")) == 2
    for version in registry.versions("default"):
        registry.promote("default", version)  # verifies every file


def test_a_private_training_publishes_what_it_promises(tmp_path: Path) -> None:
    """From the options to the manifest and the report; the secret is gone, and what was learnt serves."""
    where = ["--registry", str(tmp_path / "registry"), "--run-dir", str(tmp_path / "run")]
    options = ["--preset", "tiny", "--private-epsilon", "10", "--promote", "always"]
    result = run("train", *data_options(tmp_path), *options, *where)[-1]
    registry = Registry(tmp_path / "registry")
    manifest = registry.open(registry.promote("default", result["version"])).manifest
    assert manifest.privacy is not None
    assert 9.7 < manifest.privacy.epsilon <= 10.0
    assert manifest.metrics == {}
    assert result["privacy"]["epsilon"] == manifest.privacy.epsilon
    assert not (tmp_path / "run" / "jobs" / "model" / "secret").exists()
    assert "In all ε = " in Path(result["report"]["markdown"]).read_text()
    assert result["metrics"]["adaptation on"] > result["metrics"]["its own popularity"]


def test_an_evaluation_says_what_privacy_costs(tmp_path: Path) -> None:
    where = ["--run-dir", str(tmp_path / "run"), "--protocol", "private", "--seeds", "1"]
    result = run("evaluate", *data_options(tmp_path), *_STEPS, *where)[-1]
    found = result["private"]["ndcg10"]
    assert {"popularity", "not private", "ε = ∞", "rows alone, ε = 1", "popularity, ε = 4"} <= set(found)
    assert found["ε = ∞"]["5"] > found["popularity"]["5"] + 0.1
    assert list(result["private"]["ledgers"]) == ["ε = 10", "ε = 4", "ε = 1"]
    assert Path(result["report"]["private"]).stat().st_size > 10_000
    assert not list((tmp_path / "run" / "jobs").glob("*/secret"))


def test_people_beyond_memory_are_streamed(tmp_path: Path) -> None:
    """Thirty of a hundred people in memory: pre-training reads all, and an interrupted-and-resumed run would
    read the same (`tests/unit/services/training/test_stream.py`)."""
    where = ["--registry", str(tmp_path / "registry"), "--run-dir", str(tmp_path / "run")]
    said = run("train", *data_options(tmp_path), *_STEPS, *where, "--people-in-memory", "30")
    messages = [s["message"] for s in said if "message" in s]
    assert "100 people: pre-training streams them from disk, the rest is learnt from 30" in messages
    quality = said[-1]["metrics"]
    assert quality["adaptation on"] > quality["popularity"] + 0.1


def test_an_evaluation_measures_all_that_it_promises(tmp_path: Path) -> None:
    where = ["--run-dir", str(tmp_path / "run"), "--protocol", "all", "--seeds", "2", "--new-items", "10"]
    result = run("evaluate", *data_options(tmp_path), *_STEPS, *where)[-1]
    assert result["few_shot"]["seeds"] == 2
    last = result["few_shot"]["rows"][-1]
    assert set(last["arms"]) == {*_COMPARED, "adaptation off", "adaptation on", *_PARTS}
    assert last["on_minus_off"]["low"] <= last["on_minus_off"]["mean"] <= last["on_minus_off"]["high"]
    assert result["new_items"]["items"] == 10
    assert set(result["feedback"]) == {"dislike", "like", "rating 1", "rating 2", "rating 5"}
    assert Path(result["report"]["json"]).is_file()
    assert "## Few shots" in result["markdown"]
    compared = result["adaptation"]
    assert {row["k"] for row in compared["rows"]} == {0, 1, 2, 5, 10, 20}
    for row in compared["rows"]:
        assert set(row["ndcg10"]) == {"adaptation off", "adaptation on", "fine-tuned"}
        alone, together = row["times"]
        assert alone["finetune_ms"] > alone["encode_adapt_ms"] > 0.0
        assert together["encode_adapt_ms"] < alone["encode_adapt_ms"]
    assert compared["rows"][0]["fine_tuned_minus_off"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert len(compared["fine_tuning"]) == 2
    assert "## Adapting as served, and fine-tuning" in result["markdown"]


def test_everybodys_last_event_is_asked_of_a_sequence_model(tmp_path: Path) -> None:
    where = ["--run-dir", str(tmp_path / "run"), "--protocol", "leave-one-out", "--seeds", "2"]
    options = ["--preset", "tiny", "--pretrain-steps", "40"]
    result = run("evaluate", *data_options(tmp_path), *options, *where)[-1]
    found = result["leave_one_out"]
    assert (found["people"], found["seeds"]) == (100, 2)
    arms = {name: parts["test"]["hr10"] for name, parts in found["arms"].items()}
    assert set(arms) == {*_BASELINES, "ALS", "PureSVD", "sequence model", "sequence model with transitions"}
    assert arms["sequence model"] > arms["popularity"]
    assert result["cost"]["pretrain_seconds"] > 0.0
    assert Path(result["report"]["arms"]).is_file()


def test_stars_of_new_people_and_new_items_are_asked(tmp_path: Path) -> None:
    """On MovieLens-100K, whose titles have years; most of its people end before the new items come."""
    where = ["--run-dir", str(tmp_path / "run"), "--protocol", "rating", "--seeds", "1"]
    said = run("evaluate", "--dataset", "movielens-100k", *_STEPS, *where)
    found = said[-1]["rating"]
    assert found["people"]["new user"] > 50
    maes = {name: arm["new user"]["mae"] for name, arm in found["arms"].items()}
    assert all(0.5 < mae < 1.2 for mae in maes.values())
    assert maes["adaptation on"] < maes["adaptation off"]
    assert [s["step"] for s in said if s.get("stage") == "evaluate" and s["event"] == "progress"] == [
        0,
        1,
        2,
        3,
    ]


def test_adapters_are_compared_on_the_same_bodies(tmp_path: Path) -> None:
    where = ["--run-dir", str(tmp_path / "run"), "--protocol", "adapters", "--seeds", "1"]
    found = run("evaluate", *data_options(tmp_path), *_STEPS, *where)[-1]["adapters"]
    assert {adapter["name"] for adapter in found["adapters"]} == {
        "ridge",
        "gradient",
        "gradient-first-order",
        "gradient-learned-rates",
        "amortised",
    }
    means = [adapter["mean_ndcg10"] for adapter in found["adapters"]]
    assert means == sorted(means, reverse=True)
    for adapter in found["adapters"]:
        assert adapter["ndcg10"]["0"] == pytest.approx(found["off"]["0"])  # nothing to adapt to
        assert adapter["seconds"] > 0.0


@pytest.mark.parametrize(
    "options",
    [
        ["--adapter", "finetune"],
        ["--adapter", "reptile", "--adapter-settings", '{"steps": 2}'],
        [
            "--adapter",
            "gradient",
            "--adapter-settings",
            '{"scope": "body", "steps": 1, "learned_rates": true}',
        ],
    ],
)
def test_a_whole_body_is_the_arm_that_adaptation_off_is_compared_with(
    tmp_path: Path, options: list[str]
) -> None:
    where = ["--run-dir", str(tmp_path / "run"), "--seeds", "1"]
    result = run("evaluate", *data_options(tmp_path), *_STEPS, *where, *options)[-1]
    last = result["few_shot"]["rows"][-1]
    assert set(last["arms"]) == {*_COMPARED, "adaptation off", "adaptation on"}
    (told,) = result["whole_body"]
    assert told["adapter"] == options[1]
    assert f"the whole body by `{options[1]}`" in result["markdown"]
    assert result["few_shot_as_ranked"]["people"] == result["few_shot"]["people"] > 0
