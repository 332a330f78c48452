"""The k-shot table, the gate, feedback and new items, on a model simple enough to follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.evaluation.adaptation import FINE_TUNED, adaptation_dict
from services.training.evaluation.adapters_report import adapters_dict, alone
from services.training.evaluation.feedback import DISLIKE, LIKE, REACTIONS, Reaction, evaluate_feedback
from services.training.evaluation.few_shot import (
    KNN,
    LATE,
    MIXED,
    OFF,
    ON,
    POPULARITY,
    RE_ENCODING,
    RULES,
    FewShot,
    few_shot,
)
from services.training.evaluation.few_shot_report import few_shot_dict
from services.training.evaluation.new_items import choose_new_items, evaluate_new_items
from services.training.evaluation.plots import plot_by_shots, stage_title, style
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.report import feedback_dict, markdown, new_items_dict, write_report
from services.training.evaluation.served import ServedRows
from services.training.evaluation.timing import Timed
from services.training.jobs import Arm, Job
from services.training.pipeline import write_few_shot_report
from services.training.publish import gate, manifest_metrics
from services.training.roles import RoleSettings
from services.training.runs import Run
from services.training.settings import SourceSettings, TrainSettings
from services.training.trends import Recent
from services.training.worker import DRAFT_FILE
from shared.context.labels import signed_labels
from shared.domain import Action, FloatArray, UserContext
from shared.holdout import Role
from tests.unit.services.training import synthetic


class ContentModel:
    """Scores an item by its text's likeness to what the person liked: rows are content embeddings.

    sign −1 turns everything round.
    """

    def __init__(self, data: TrainingData, sign: float = 1.0) -> None:
        self.known = dict(zip(data.item_ids, data.content, strict=True))
        self.sign = sign
        self.recent: list[Recent] = []
        self.artifact = SimpleNamespace(
            manifest=SimpleNamespace(dims=SimpleNamespace(taste=synthetic.CONTENT_DIM))
        )

    def add_items(self, item_ids: Sequence[str], content: FloatArray) -> None:
        self.known.update(zip(item_ids, content, strict=True))

    def rows(self, item_ids: Sequence[str]) -> ServedRows:
        rows = np.stack([self.known[i] for i in item_ids])
        return ServedRows(rows, np.full(len(rows), -1, np.int32), np.zeros((len(rows), 0), np.int32))

    def scores(
        self, contexts: Sequence[UserContext], rows: ServedRows, *, task: str, recent: Any = None
    ) -> FloatArray:
        self.recent.append(recent)
        found = np.zeros((len(contexts), synthetic.CONTENT_DIM), np.float32)
        for row, context in enumerate(contexts):
            history = context.history
            labels = signed_labels(history.actions, history.values)
            for item_id, label in zip(history.item_ids, labels, strict=True):
                found[row] += self.sign * label * self.known[item_id]
        return found @ rows.output.T


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(), RoleSettings(0.35, 0.2))


@pytest.fixture(scope="module")
def table(data: TrainingData) -> FewShot:
    people = data.users_of(Role.HELD_OUT)
    models: Any = {OFF: [ContentModel(data, -1.0)] * 2, ON: [ContentModel(data)] * 2}
    return few_shot(data, ask(data, people, fitting_protocol(data, people)), models, task="next")


def test_the_table_has_every_arm_at_every_k_and_ranks_them_rightly(table: FewShot) -> None:
    assert table.shots == (0, 1, 2, 5)
    assert set(table.arms) == {POPULARITY, LATE, KNN, RULES, OFF, ON}
    assert 0 not in table.arms[KNN]
    assert 0 not in table.arms[RULES]
    # A person's taste shows after one event; against it, after none.
    assert table.ndcg(ON, 5) > table.ndcg(POPULARITY, 5) > table.ndcg(OFF, 5)
    assert table.difference(ON, OFF, 5).says_better
    assert table.difference(ON, OFF).says_better
    assert table.share_worse(ON, OFF, 5) < 0.05
    assert table.hr(ON, 5) >= table.ndcg(ON, 5)


def test_models_are_told_what_training_people_chose_when(data: TrainingData) -> None:
    """In the table, alone and mixed, and for feedback."""
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    model: Any = ContentModel(data)
    few_shot(data, questions, {RE_ENCODING: [model]}, task="next")
    evaluate_feedback(data, questions, model, REACTIONS[:1], task="next")
    wanted = Recent.of(data)
    shots = len(questions.protocol.shots)
    assert len(model.recent) >= shots + (shots - 1) + 2  # the mix from one event on; before and after
    for told in model.recent:
        np.testing.assert_array_equal(told.time_ms, wanted.time_ms)
        np.testing.assert_array_equal(told.items, wanted.items)


def test_re_encoding_is_also_mixed_with_item_knn(data: TrainingData) -> None:
    """Where the model says nothing, the mix is item-kNN."""
    people = data.users_of(Role.HELD_OUT)
    models: Any = {RE_ENCODING: [ContentModel(data, 0.0)]}
    found = few_shot(data, ask(data, people, fitting_protocol(data, people)), models, task="next")
    assert 0 not in found.arms[MIXED]
    assert found.ndcg(RE_ENCODING, 5) < found.ndcg(MIXED, 5)
    assert found.ndcg(MIXED, 5) == pytest.approx(found.ndcg(KNN, 5), abs=0.02)


def test_the_gate_wants_popularity_beaten_and_the_champion_not_missed(table: FewShot) -> None:
    first = gate(table, ON, None)
    assert first.passed
    assert "beats popularity" in first.reasons[0]
    said = f"item-kNN has {table.mean_ndcg(KNN):.4f}, popular of late has {table.mean_ndcg(LATE):.4f})"
    assert said in first.reasons[0]
    assert gate(table, ON, OFF).passed
    worse = gate(table, OFF, ON)
    assert not worse.passed
    assert "does not beat popularity" in worse.reasons[0]
    assert "worse" in worse.reasons[1]
    assert not gate(table, POPULARITY, ON).passed


def test_the_gate_lets_nothing_through_that_nobody_can_judge(data: TrainingData) -> None:
    nobody = ask(data, np.zeros(0, np.int32), fitting_protocol(data, data.users_of(Role.HELD_OUT)))
    models: Any = {ON: [ContentModel(data)]}
    verdict = gate(few_shot(data, nobody, models, task="next"), ON, None)
    assert not verdict.passed
    assert "no held-out person" in verdict.reasons[0]


def test_figures_of_the_manifest_are_those_of_the_table(table: FewShot) -> None:
    metrics = manifest_metrics(table, ON)
    assert metrics["ndcg10_k5"] == table.ndcg(ON, 5)
    assert metrics["ndcg10"] == pytest.approx(np.mean([table.ndcg(ON, k) for k in (1, 2, 5)]))
    assert metrics["held_out_people"] == len(table.questions)


def test_a_dislike_sends_similar_items_down_and_a_like_brings_them_up(data: TrainingData) -> None:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    served: Any = ContentModel(data)
    disliked, liked = evaluate_feedback(data, questions, served, (DISLIKE, LIKE), task="next")
    assert disliked.after > disliked.before
    assert disliked.change.says_better
    assert disliked.share_as_meant > 0.9
    assert liked.after < liked.before
    backwards: Any = ContentModel(data, -1.0)
    (wrong,) = evaluate_feedback(data, questions, backwards, (DISLIKE,), task="next")
    assert wrong.change.says_worse


@pytest.mark.parametrize(("stars", "down"), [(1.0, True), (2.0, True), (5.0, False)])
def test_a_low_rating_means_that_similar_items_go_down(data: TrainingData, stars: float, down: bool) -> None:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    served: Any = ContentModel(data)
    rated = Reaction(Action.RATING, stars)
    (moved,) = evaluate_feedback(data, questions, served, (rated,), task="next")
    assert moved.reaction == f"rating {stars:g}"
    assert (moved.after > moved.before) is down
    assert moved.share_as_meant > 0.5


def test_new_items_reach_those_whom_they_fit(data: TrainingData) -> None:
    chosen = choose_new_items(data, 8)
    assert len(chosen) == 8
    rest, taken = data.hold_out_items(chosen)
    served: Any = ContentModel(rest)
    result = evaluate_new_items(rest, taken, served, task="next")
    assert result.items == 8
    assert result.people > 10
    assert result.fitting < 0.2 < result.others
    assert result.liked < 0.35 < result.not_liked


def test_the_report_is_written_for_programs_and_people(
    tmp_path: Path, data: TrainingData, table: FewShot
) -> None:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    served: Any = ContentModel(data)
    rest, taken = data.hold_out_items(choose_new_items(data, 8))
    cold: Any = ContentModel(rest)
    report = {
        "data": "a world",
        "domain": "default",
        "few_shot": few_shot_dict(table, "next"),
        "few_shot_as_ranked": few_shot_dict(table, "mix"),
        "new_items": new_items_dict(evaluate_new_items(rest, taken, cold, task="next")),
        "feedback": feedback_dict(evaluate_feedback(data, questions, served, REACTIONS, task="next")),
    }
    files = write_report(tmp_path, report)
    written = json.loads(Path(files["json"]).read_text())["few_shot"]
    assert written["people"] == len(table.questions)
    assert written["protocol"]["numbers"] == [0, 1, 2, 5]  # not those that the data do not allow
    text = Path(files["markdown"]).read_text()
    assert text.startswith(markdown(report))
    assert text.startswith("# Evaluation on a world, domain default\n")
    assert text.endswith("\n![plot](shots.png)\n")
    assert "- **item-kNN**: items that people chose" in text
    assert "- **labels hidden**" not in text  # words that it does not have
    assert f"| 5 | {table.ndcg(POPULARITY, 5):.4f} /" in text
    assert text.index("ranked by task `next`") < text.index("ranked by the mix of tasks that is served")
    assert "| dislike |" in text
    assert "| rating 1 |" in text
    assert Path(files["plot"]).read_bytes().startswith(b"\x89PNG")


def test_adapting_as_served_is_reported_beside_fine_tuning(tmp_path: Path, data: TrainingData) -> None:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    models: Any = {
        OFF: [ContentModel(data, -1.0)],
        ON: [ContentModel(data)],
        FINE_TUNED: [ContentModel(data, -1.0)],
    }
    table = few_shot(data, questions, models, task="next")
    times = {
        k: (Timed(50, 1, 1.25, 1.75, 0.5, 17.5), Timed(32, 32, 0.25, 0.375, 0.125, 15.0))
        for k in table.shots
        if k > 0
    }
    told = {"adapter": "finetune", "chosen": {"steps": 4, "rate": 0.01, "rows": False}, "tried": [{}] * 10}
    found = adaptation_dict(table, times, adapter="ridge", task="next", fine_tuning=[told])
    last = found["rows"][-1]
    assert last["ndcg10"] == {arm: table.ndcg(arm, 5) for arm in (OFF, ON, FINE_TUNED)}
    assert last["on_minus_fine_tuned"] == last["on_minus_off"]
    assert last["fine_tuned_minus_off"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["on_minus_off"]["low"] > 0.0
    assert [timed["finetune_ms"] for timed in last["times"]] == [17.5, 15.0]
    assert last["share_worse"]["on_minus_off"] == table.share_worse(ON, OFF, 5) < 0.05
    assert last["share_worse"]["fine_tuned_minus_off"] == 0.0

    report = {"domain": "default", "adaptation": found}
    files = write_report(tmp_path, report)
    assert Path(files["adaptation"]).read_bytes().startswith(b"\x89PNG")
    text = Path(files["markdown"]).read_text()
    assert "![adaptation](adaptation.png)" in text
    assert "gradient steps × rate 4 × 0.01, the best of 10 on validation people" in text
    assert (
        "| 5 | 1 | 50 | 1.750 | 0.500 | 17.500 | 35 |\n| 5 | 32 | 32 | 0.375 | 0.125 | 15.000 | 120 |" in text
    )
    assert "| 0 | 1 | 50 |" not in text  # what was not timed


def test_adapters_are_listed_from_the_best_down(tmp_path: Path, data: TrainingData) -> None:
    """One that turns everything round is worse than off for nearly everybody; one that is off, for nobody."""
    people = data.users_of(Role.VALIDATION)
    questions = ask(data, people, fitting_protocol(data, people))
    right, off = ContentModel(data), ContentModel(data, -1.0)
    models: Any = {OFF: [off], "ridge": [right], alone("ridge"): [off], "same": [off], alone("same"): [right]}
    table = few_shot(data, questions, models, task="next")
    found = adapters_dict(table, {"same": {}, "ridge": {"adapt_seconds": 12.4}}, "next")
    best, last = found["adapters"]
    assert (best["name"], best["seconds"], last["name"], last["seconds"]) == ("ridge", 12.4, "same", None)
    assert best["minus_off"]["low"] > 0.0
    assert best["fast_weights_minus_off"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert (best["share_worse_than_off"] < 0.1, last["share_worse_than_off"]) == (True, 0.0)
    files = write_report(tmp_path, {"domain": "default", "adapters": found})
    assert Path(files["adapters"]).read_bytes().startswith(b"\x89PNG")
    text = Path(files["markdown"]).read_text()
    assert last["minus_best"]["high"] < 0.0
    assert "Best in the mean over k ≥ 1: `ridge`." in text
    assert text.index("| adaptation off |") < text.index("| ridge |") < text.index("| same |")
    assert "| k = 0 |" not in text

    nobody = ask(data, np.zeros(0, np.int32), questions.protocol)
    empty = few_shot(data, nobody, models, task="next")
    report = {"domain": "default", "adapters": adapters_dict(empty, {"ridge": {}}, "next")}
    assert "adapters" not in write_report(tmp_path, report)
    text = markdown(report)
    assert "No validation person has enough events." in text


def test_a_whole_body_is_named_below_its_table(data: TrainingData, table: FewShot) -> None:
    told = {"adapter": "reptile", "chosen": {"steps": 3, "rate": 0.003}, "tried": []}
    report = {"domain": "default", "few_shot": few_shot_dict(table, "next"), "whole_body": [told, told]}
    assert "the whole body by `reptile` (steps 3, rate 0.003); never served." in markdown(report)


def test_one_arm_of_one_seed_is_compared_with_nothing_but_the_baselines(data: TrainingData) -> None:
    """As after a training: no column stays empty for want of a second arm."""
    people = data.users_of(Role.HELD_OUT)
    models: Any = {ON: [ContentModel(data)]}
    alone = few_shot(data, ask(data, people, fitting_protocol(data, people)), models, task="next")
    text = markdown({"domain": "default", "few_shot": few_shot_dict(alone, "next")})
    assert f"| k | {POPULARITY} | {LATE} | {KNN} | {RULES} | {ON} |\n|---|---|---|---|---|---|\n" in text
    assert "| worse |" not in text
    assert "**worse**" not in text
    assert "; 1 seed. " in text


def test_the_time_of_the_evaluation_is_told_apart_from_trainings() -> None:
    cost = {"pretrain_seconds": 769.0, "adapt_seconds": 35.0, "peak_memory_mb": 1966.0}
    report = {"domain": "default", "preset": "base", "seeds": 2, "cost": cost, "seconds": 999.0}
    whole = "From the last start of the run on, with what of its trainings was still to do: 999 s."
    assert whole in markdown(report)  # as earlier versions noted it
    blind = {"pretrain_seconds": 20.0, "adapt_seconds": 0.0}
    text = markdown({**report, "cost_of_others": {"blind to labels": blind}, "evaluation_seconds": 97.4})
    assert (
        "A training with preset `base`, the mean over 2 seeds: pre-training 769 s, adapter 35 s, at most "
        "1966 MB in a worker. One of a model blind to labels: pre-training 20 s. The evaluation itself, from "
        "when its arms began to be measured: 97 s."
    ) in text
    assert "999" not in text
    assert "adapters 35 s" in markdown({**report, "adapters": {"people": 0}})


def test_why_there_is_no_reliability_is_said(data: TrainingData, table: FewShot) -> None:
    """These people are asked for five events; a training measures none and says nothing of it."""
    told = few_shot_dict(table, "next")
    said = "values are of a person's next 10 events, and of these people the next 5 are asked for."
    assert said in markdown({"domain": "default", "few_shot": told})
    whole = {"adapter": "reptile", "chosen": {"steps": 3}, "tried": []}
    body = markdown({"domain": "default", "few_shot": told, "whole_body": [whole]})
    assert "a whole body that is adapted gives no values that are served" in body
    people = data.users_of(Role.HELD_OUT)
    models: Any = {ON: [ContentModel(data)]}
    alone = few_shot(data, ask(data, people, fitting_protocol(data, people)), models, task="next")
    assert "No reliability" not in markdown({"domain": "default", "few_shot": few_shot_dict(alone, "next")})


def test_lines_of_a_plot_are_told_apart_and_stages_are_named_as_in_reports() -> None:
    """By mark and dash, whoever sees no colours."""
    drawn = [(style(place)["marker"], str(style(place)["linestyle"])) for place in range(30)]
    assert len(set(drawn)) == 30
    stages = ("pretrain", "meta-train", "adapt-on", "adapt-ridge")
    told = ["pre-training", "meta-training", "adapter", "adapter ridge"]
    assert [stage_title(stage) for stage in stages] == told


def test_shots_are_marked_where_they_were_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: seen.append(figure))
    plot_by_shots({"popularity": {0: 0.1, 1: 0.1, 3: 0.1}, "item-kNN": {1: 0.2, 3: 0.2}}, "", tmp_path / "x")
    (figure,) = seen
    assert figure.axes[0].get_xticks().tolist() == [0, 1, 3]


def test_a_trainings_report_tells_its_time_and_memory(tmp_path: Path, table: FewShot) -> None:
    arm, run = Arm("on", "ridge"), Run(tmp_path)
    job = Job("model", tmp_path / "model", 0, "tiny", (arm,))
    job.export(arm).mkdir(parents=True)
    told = {"pretrain_seconds": 7.0, "adapt_seconds": 2.0, "peak_memory_mb": 300.0}
    (job.export(arm) / DRAFT_FILE).write_text(json.dumps({"metrics": told}))
    settings = TrainSettings(SourceSettings(dataset="movielens-100k"), preset="tiny")
    files = write_few_shot_report(settings, run, job, table, 3.0)
    text = Path(files["markdown"]).read_text()
    assert "A training with preset `tiny`: pre-training 7 s, adapter 2 s, at most 300 MB in a worker." in text
    assert "from when its arms began to be measured: 3 s." in text
