"""An adapter of the whole body on a finished one: fitted, kept, read again, ranked; never exported."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from services.training.adapt_body import BodyConfig, FittedBody, fit_body
from services.training.assemble import assemble
from services.training.body import Body
from services.training.body_arm import KeptBody, keep
from services.training.body_scores import OwnScores, ndcg_of_next
from services.training.data import TrainingData
from services.training.episodes import EpisodeShape, protocol_episodes
from services.training.evaluation.protocol import ask, contexts, fitting_protocol
from services.training.evaluation.whole_body import WholeBody
from services.training.jobs import BODY_FILE, Arm, Job, Plan
from services.training.loop import Hooks, TrainState
from services.training.presets import preset
from services.training.pretrain import new_model
from services.training.roles import RoleSettings
from services.training.worker import DRAFT_FILE, Reporter, do_job, is_exported
from shared.adapters import make_body_adapter
from shared.adapters.body import Pace
from shared.holdout import Role
from shared.modeling.config import TASKS
from tests.unit.services.training import synthetic

CONFIG = BodyConfig(
    steps=4, batch_episodes=4, validate_every=2, validation_shots=(1, 5), shape=EpisodeShape(max_shots=8)
)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=60, events=34, items=80), RoleSettings(0.2, 0.3))


def model_of(data: TrainingData) -> Any:
    config = replace(preset("tiny").model, content_dim=data.content.shape[1], adapter="none")
    return new_model(config, data.without_held_out(), seed=0)


@pytest.fixture(scope="module")
def tuned(data: TrainingData) -> tuple[dict[str, Any], Any, FittedBody]:
    """Arrays before, the model after, what fine-tuning chose."""
    model = model_of(data)
    before = model.state_arrays()
    adapter = make_body_adapter("finetune", steps=[1, 3], rate=[0.001, 0.1])
    return before, model, fit_body(model, adapter, data.without_held_out(), CONFIG, seed=0)


def test_fine_tuning_takes_what_validation_people_say_and_leaves_the_body_alone(
    tuned: tuple[dict[str, Any], Any, FittedBody], data: TrainingData
) -> None:
    before, model, fitted = tuned
    assert all(np.array_equal(before[path], array) for path, array in model.state_arrays().items())
    said = {(s["steps"], s["rate"]): ndcg for s, ndcg in fitted.tried}
    assert len(said) == 4
    assert said[fitted.adapter.steps, fitted.adapter.rate] == max(said.values())
    # A model that was never trained has much to learn from a few events.
    rest, body = data.without_held_out(), Body(model)
    scores = OwnScores(body, fitted.adapter).of_episodes(rest, body.start(), fitted.pace)
    seen = ndcg_of_next(scores, rest, rest.users_of(Role.VALIDATION), (1, 5))
    assert seen == fitted.metrics["validation_ndcg"]
    still = fitted.pace._replace(steps=np.int32(0))
    off = OwnScores(body, fitted.adapter).of_episodes(rest, body.start(), still)
    assert seen > ndcg_of_next(off, rest, rest.users_of(Role.VALIDATION), (1, 5))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        # test_body_adapters keeps the short form of them
        pytest.param("reptile", {"steps": 1, "rate": 0.05}, marks=pytest.mark.slow),
        pytest.param(
            "gradient",
            {"scope": "body", "steps": 1, "rate": 0.05, "first_order": True},
            marks=pytest.mark.slow,
        ),
        pytest.param("gradient", {"scope": "body", "learned_rates": True}, marks=pytest.mark.slow),
    ],
)
def test_meta_training_moves_encoder_and_heads_and_keeps_the_best(
    name: str, settings: dict[str, Any], data: TrainingData
) -> None:
    model, rest = model_of(data), data.without_held_out()
    before = model.state_arrays()
    adapter = make_body_adapter(name, **settings)
    config = replace(CONFIG, rates=replace(CONFIG.rates, rate=1e-2, warmup=1))
    fitted = fit_body(model, adapter, rest, config, seed=0)
    assert np.isfinite(fitted.metrics["loss"])
    assert fitted.metrics["validation_ndcg"] >= fitted.metrics["validation_ndcg_at_start"] > 0.0
    moved = {path for path, array in model.state_arrays().items() if not np.array_equal(array, before[path])}
    assert all("encoder" in path or "heads" in path for path in moved)
    body = Body(model)
    scores = OwnScores(body, adapter).of_episodes(rest, body.start(), fitted.pace)
    seen = ndcg_of_next(scores, rest, rest.users_of(Role.VALIDATION), (1, 5))
    assert seen == fitted.metrics["validation_ndcg"]


@pytest.mark.slow  # test_adapt keeps the short form of it
@pytest.mark.parametrize(
    ("name", "settings"),
    [("reptile", {"steps": 1, "rate": 0.05}), ("gradient", {"scope": "body", "learned_rates": True})],
)
def test_a_resumed_meta_training_is_the_one_that_never_stopped(
    name: str, settings: dict[str, Any], data: TrainingData
) -> None:
    """Stopped after the first look at validation people; inner rates go on too."""
    rest, adapter, kept = data.without_held_out(), make_body_adapter(name, **settings), []
    config = replace(CONFIG, rates=replace(CONFIG.rates, rate=1e-2, warmup=1))
    model, resumed = model_of(data), model_of(data)
    hooks = Hooks(on_checkpoint=kept.append, checkpoint_every=3)
    fitted = fit_body(model, adapter, rest, config, seed=0, hooks=hooks)
    again = fit_body(resumed, adapter, rest, config, seed=0, hooks=Hooks(resume=kept[0]))
    assert again.metrics == fitted.metrics
    np.testing.assert_array_equal(again.pace.rates, fitted.pace.rates)
    for path, array in resumed.state_arrays().items():
        np.testing.assert_array_equal(array, model.state_arrays()[path], err_msg=path)


def test_what_is_kept_is_read_as_it_was(data: TrainingData, tmp_path: Path) -> None:
    """Learned rates, one a weight, with the weights."""
    model = model_of(data)
    adapter = make_body_adapter("gradient", scope="body", steps=2, learned_rates=True)
    rates = np.random.default_rng(0).uniform(0.01, 0.1, Body(model).num_weights).astype(np.float32)
    fitted = FittedBody(adapter, Pace(np.int32(2), rates), {"loss": 1.5}, ((adapter.settings, 0.25),))
    keep(tmp_path / "arm", model, fitted, data.select_users(np.zeros(data.num_users, bool)))
    kept = KeptBody.load(tmp_path / "arm", data.content)
    np.testing.assert_array_equal(kept.pace.rates, rates)
    assert kept.pace.steps == 2
    settings = {"steps": 2, "rate": 0.003, "first_order": False, "learned_rates": True}
    tried = [{"settings": settings, "ndcg10": 0.25}]
    assert kept.told == {"adapter": "gradient", "chosen": settings, "tried": tried}
    for path, array in kept.body.model.state_arrays().items():
        np.testing.assert_array_equal(array, model.state_arrays()[path], err_msg=path)


@pytest.mark.slow
def test_a_kept_body_ranks_people_as_serving_would_know_them(
    tuned: tuple[dict[str, Any], Any, FittedBody], data: TrainingData, tmp_path: Path
) -> None:
    """The contexts that artifacts are asked with give what training's own episodes give."""
    _, model, fitted = tuned
    keep(tmp_path / "arm", model, fitted, data.without_held_out())
    loaded = WholeBody.load(tmp_path / "arm", data.item_ids, data.content)
    whole = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - as it travels to other processes
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    found = whole.scores(contexts(data, questions, 5), whole.rows(data.item_ids), task=TASKS[0])
    cuts = protocol_episodes(data, people, 5)
    expected = whole.own.of_episodes(data, whole.start, whole.kept.pace)(cuts)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    mixed = whole.scores(contexts(data, questions, 5)[:2], whole.rows(data.item_ids), task="mix")
    assert ((mixed > 0.0) & (mixed < 1.0)).all()  # values: probabilities


@pytest.mark.slow
def test_a_job_keeps_such_an_arm_beside_the_exports(data: TrainingData, tmp_path: Path) -> None:
    tune, off = Arm("fine-tuned", "finetune", {"steps": 1, "rate": 0.01}), Arm("off", "none")
    job = Job("model", tmp_path / "job", 0, "tiny", (off, tune), pretrain_steps=2, meta_steps=2)
    plan = Plan((job,), tmp_path / "progress", tmp_path / "stop", tmp_path / "tensorboard", 1)
    job.directory.mkdir()
    for stage in ("pretrain", "meta-train"):  # a body that is finished already
        TrainState(stage, 2, model_of(data).state_arrays()).save(job.done(stage))
    with Reporter(plan, writes=True) as reporter:
        do_job(job, data.without_held_out(), None, reporter)
    assert is_exported(job, off)
    assert is_exported(job, tune)
    assert not (job.export(tune) / DRAFT_FILE).exists()
    told = json.loads((job.export(tune) / BODY_FILE).read_text())
    assert told["adapter"]["name"] == "finetune"
    assert told["model"]["adapter"] == "none"
    # The same body as the arm beside it: without steps, the same rows.
    body = KeptBody.load(job.export(tune), data.content).body
    rows = np.load(job.export(off) / "rows" / "output.npy")
    np.testing.assert_allclose(body.catalogue().output.numpy(), rows, atol=1e-6)
