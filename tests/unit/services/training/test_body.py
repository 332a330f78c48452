"""A body as a function of its weights, against the model itself, one event at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

from services.training.assemble import assemble
from services.training.body import LIKE_WEIGHT, Body
from services.training.body_scores import OwnScores
from services.training.data import TrainingData
from services.training.episode_batch import episode_batch
from services.training.episodes import EpisodeShape, episode_inputs
from services.training.presets import preset
from services.training.roles import RoleSettings
from services.training.scores import episode_scores
from services.training.windows import LIKED_LABEL, Cuts
from shared.adapters import make_body_adapter
from shared.domain import Action
from shared.modeling.config import LIKE_TASK, NEXT_TASK, TASKS
from tests.unit.services.training import synthetic

LENGTH = 20


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=12, events=34, items=60), RoleSettings(0.0, 0.2))


def shaken(config: Any, data: TrainingData, *, seed: int) -> Any:
    """A model whose variables are all random."""
    from shared.modeling.model import WarmstartModel

    model, rng = WarmstartModel(config, data.content, seed=seed), np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(scale=0.2, size=variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model(data: TrainingData) -> Any:
    config = replace(preset("tiny").model, content_dim=data.content.shape[1], adapter="none")
    return shaken(config, data, seed=1)


def episode(data: TrainingData, shots: int) -> dict[str, Any]:
    """One person's inputs, their last event a dislike."""
    cuts = Cuts(np.array([3], np.int32), np.array([20 - shots]), np.array([shots]))
    batch = episode_inputs(data, cuts, LENGTH)
    if shots:
        batch["actions"][0, -1], batch["values"][0, -1], batch["labels"][0, -1] = Action.DISLIKE, 0.0, -1.0
    return batch


def as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: tf.constant(column) for name, column in batch.items()}


def foretold_one_by_one(model: Any, batch: dict[str, Any], shots: int) -> float:
    """The support loss by asking the model, before each event, for what comes next."""
    rows, blind = model.item_rows(), np.zeros_like(batch["content_profile"])
    likelihoods: dict[str, list[float]] = {task: [] for task in TASKS}
    for number in range(shots):
        place = LENGTH - shots + number
        before = {n: c[:, :place] if c.shape[1:2] == (LENGTH,) else c for n, c in batch.items()}
        before["content_profile"] = blind
        on = before["mask"][..., None]
        before["input_rows"] = tf.gather(rows.input, before["items"]) * on
        before["support_rows"] = tf.gather(rows.support, before["items"]) * on
        queries = model.encode_adapt(as_tensors(before), tf.zeros([1])).queries
        logs = tf.nn.log_softmax(tf.matmul(queries[0], rows.output, transpose_b=True)).numpy()
        item, label = batch["items"][0, place], batch["labels"][0, place]
        for task in (NEXT_TASK, LIKE_TASK):
            if batch["actions"][0, place] != Action.DISLIKE and (task == NEXT_TASK or label >= LIKED_LABEL):
                likelihoods[task].append(float(logs[TASKS.index(task), item]))
    means = {task: float(np.mean(found)) for task, found in likelihoods.items() if found}
    return -means[NEXT_TASK] - LIKE_WEIGHT * means[LIKE_TASK]


def test_the_support_loss_foretells_each_event_from_those_before_it(model: Any, data: TrainingData) -> None:
    """The first one from START, which knows no content profile; a dislike is foretold by nothing."""
    body, batch = Body(model), episode(data, 6)
    found = float(body.support_loss(body.start(), as_tensors(batch), body.catalogue()))
    assert found == pytest.approx(foretold_one_by_one(model, batch, 6), rel=1e-4)


def test_no_support_no_loss(model: Any, data: TrainingData) -> None:
    body = Body(model)
    assert float(body.support_loss(body.start(), as_tensors(episode(data, 0)), body.catalogue())) == 0.0


@pytest.mark.parametrize("rows", [False, True])
def test_scores_at_the_start_are_the_models(model: Any, data: TrainingData, rows: bool) -> None:
    body = Body(model, rows=rows)
    cuts = Cuts(np.array([3, 5], np.int32), np.array([15, 20]), np.array([5, 0]))
    expected = episode_scores(model, data, cuts)
    batch = episode_inputs(data, cuts, LENGTH)
    for number in range(2):
        one = as_tensors({name: column[number : number + 1] for name, column in batch.items()})
        found = body.scores(body.start(), one, body.catalogue()).numpy()
        np.testing.assert_allclose(found, expected[number], atol=1e-4)


@pytest.mark.parametrize("rows", [False, True])
def test_the_weights_given_decide_and_not_those_of_the_model(
    model: Any, data: TrainingData, rows: bool
) -> None:
    """Item rows among them where they are weights."""
    other = Body(shaken(model.config, data, seed=2), rows=rows)
    weights, one, table = (
        Body(model, rows=rows).start(),
        as_tensors(episode(data, 4)),
        Body(model).catalogue(),
    )
    expected = Body(model).scores(Body(model).start(), one, table)
    found = other.scores(weights, one, other.catalogue() if rows else table)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_query_loss_is_that_of_meta_training(model: Any, data: TrainingData) -> None:
    from services.training.metatrain import MetaConfig, _loss
    from services.training.reactions import ReactionConfig
    from shared.modeling.random import SILENCE

    nothing = ReactionConfig(weight=0.0)
    quiet = MetaConfig(id_dropout=0.0, distil_weight=0.0, rating_weight=0.0, reactions=nothing)
    cuts = Cuts(np.array([3], np.int32), np.array([15], np.int64), np.array([5], np.int64))
    batch = as_tensors(episode_batch(data, cuts, EpisodeShape(), np.random.default_rng(0)))
    expected, _ = _loss(model, quiet)(batch, SILENCE)
    body = Body(model)
    one = {name: column for name, column in batch.items() if name != "log_q"}
    found = body.query_loss(body.start(), one, body.catalogue())
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_many_people_compiled_are_each_person_alone(model: Any, data: TrainingData) -> None:
    adapter, body = make_body_adapter("reptile", steps=2, rate=0.1), Body(model)
    pace, table, start = adapter.pace(body.num_weights), body.catalogue(), body.start()
    cuts = Cuts(np.array([3, 5], np.int32), np.array([15, 20]), np.array([5, 0]))
    batch = episode_inputs(data, cuts, LENGTH)
    found = OwnScores(body, adapter)(batch, start, pace)
    for number in range(2):
        one = as_tensors({name: column[number : number + 1] for name, column in batch.items()})
        own = adapter.adapt(lambda at, one=one: body.support_loss(at, one, table), start, pace)  # type: ignore[misc]
        np.testing.assert_allclose(found[number], body.scores(own, one, table).numpy(), atol=1e-4)
