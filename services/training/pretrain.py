"""Stage one: the encoder learns to predict what comes next at every place of every window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.loop import (
    AVERAGE,
    FOLLOW_EVERY,
    Average,
    Hooks,
    Objective,
    Trainer,
    TrainState,
    Worker,
    marked,
    run_stage,
    unmarked,
)
from services.training.pretrain_batch import (
    PretrainConfig,
    window_batch,
    windows_from_disk,
    windows_in_memory,
)
from services.training.ratings import start_ratings
from services.training.stream import StoredPeople
from services.training.windows import LIKED_LABEL, Batch
from shared.holdout import Role
from shared.modeling.config import LIKE_TASK, NEXT_TASK, RATING_TASK, ModelConfig
from shared.modeling.initial import InitialRows, initial_rows
from shared.modeling.item_tower import ItemRows
from shared.modeling.losses import catalogue_loss, squared_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import Noise

Tensor = Any
# Root mean square of the starting e and v that come from the item-item SVD.
ROW_SCALE = 0.15


def new_model(
    config: ModelConfig, data: TrainingData, *, seed: int, strategy: tf.distribute.Strategy | None = None
) -> WarmstartModel:
    """A model that starts from the data: all rows from the item-item SVD, biases from popularity.

    Only training people's events count. Variables are made under the strategy's scope.
    """
    model = empty_model(config, data, seed=seed, strategy=strategy)
    with Worker(strategy).strategy.scope():
        start = starting_rows(config, data)
        model.tables["psi"].assign(start.factors)
        model.tables["phi"].assign(start.factors)
        model.tables["b"].assign(start.biases)
        # Alike items start alike for the encoder too, and it starts by asking for what is like the events.
        alike = start.factors[:, : config.dim]
        alike = ROW_SCALE * alike / np.sqrt((alike**2).mean())
        model.tables["e"].assign_add(alike)
        model.tables["v"].assign_add(alike)
        model.encoder.start_by_averaging()
        model.heads.start_by_passing_on()
        if config.rating_dim:
            start_ratings(model, data)
    return model


def empty_model(
    config: ModelConfig, data: TrainingData, *, seed: int, strategy: tf.distribute.Strategy | None = None
) -> WarmstartModel:
    """One with random weights, to load others into."""
    with Worker(strategy).strategy.scope():
        return WarmstartModel(config, data.content, seed=seed)


def starting_rows(config: ModelConfig, data: TrainingData) -> InitialRows:
    """Starting values of ψ, φ and b from the events of training people."""
    among = np.isin(data.roles, [int(Role.TRAIN)])[data.owners]
    return initial_rows(
        data.owners[among],
        data.items[among],
        data.labels[among] >= LIKED_LABEL,
        num_users=data.num_users,
        num_items=data.num_items,
        dim=config.adapt_dim,
    )


def pretrain(
    model: WarmstartModel,
    data: TrainingData,
    config: PretrainConfig,
    *,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008 (frozen)
    stored: StoredPeople | None = None,
) -> dict[str, float]:
    """Trains tables, tower, encoder and sequence heads in place.

    The same on every worker: each step's batch is a function of (seed, step), and each worker takes
    its equal share of it, so `batch_windows` must divide by the number of workers.

    Args:
        model: from `new_model`, built under the strategy's scope.
        data: only people of role TRAIN are trained on.
        stored: the people to train on in place of those of `data`, streamed from disk.
        hooks: progress, checkpoints and resumption.

    Returns:
        The last metrics: loss, loss by task.
    """
    worker = Worker(strategy)
    objective = Objective(_loss(model, config), [(_variables(model), config.rates.rate)])
    trainer = Trainer(model, [objective], config.rates, config.steps, worker)
    average = Average(model, config.average)
    first = 0
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        average.load(unmarked(hooks.resume.arrays, AVERAGE))
        first = hooks.resume.step

    windows = (
        windows_in_memory(data, config, seed, worker, first)
        if stored is None
        else windows_from_disk(stored, config, seed, worker, first)
    )

    def make(_: int) -> Batch:
        mine = next(windows)
        return window_batch(mine.data, mine.cuts, config, mine.rng, worker.count)

    def follow(done: int) -> None:
        if (config.average and done % FOLLOW_EVERY == 0) or done == config.steps:
            average.follow(done / FOLLOW_EVERY)

    def state(done: int) -> TrainState:
        return TrainState("pretrain", done, {**trainer.arrays(), **marked(average.arrays, AVERAGE)})

    metrics = run_stage(trainer, make, config.steps, seed=seed, hooks=hooks, state=state, follow=follow)
    model.load_arrays(average.arrays)
    return metrics


def _variables(model: WarmstartModel) -> list[Any]:
    tables = [model.tables[name] for name in ("e", "v", "b")]
    return [
        *tables,
        *model.tower.trainable_variables,
        *model.encoder.trainable_variables,
        *model.heads.trainable_variables,
    ]


def _loss(model: WarmstartModel, config: PretrainConfig) -> Any:
    """(batch, noise) → (loss, metrics)."""

    def loss(batch: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        content = model.content_rows(batch.get("pool"))
        ids = model.id_rows(content, batch.get("pool"))
        rows = model.tower.fuse(ids, _presence(batch, config.id_dropout, noise), content)
        inputs = {**batch, "input_rows": tf.gather(rows.input, batch["items"]) * batch["mask"][..., None]}
        states = model.encoder(inputs, noise=noise)
        dim = model.config.dim
        flat = tf.reshape(states, [-1, dim])
        shots = tf.pad(tf.cumsum(batch["mask"], axis=1), [[0, 0], [1, 0]])
        shots = tf.reshape(shots, [-1])
        values, biases = rows.output[:, :dim], rows.output[:, -len(model.config.tasks) :]
        losses: dict[str, Tensor] = {}
        for number, task in enumerate(model.config.tasks):
            if f"{task}_at" not in batch:
                continue
            at, target, weight = (batch[f"{task}_{name}"] for name in ("at", "target", "weight"))
            query = model.heads.sequence_queries(tf.gather(flat, at), tf.gather(shots, at))[:, number]
            if task == RATING_TASK:
                losses[task] = _star_loss(model, query, rows, target, batch["stars"], weight)
                continue
            # A sampled column counts for all that it stands for (Bengio & Senécal, 2008).
            offsets = biases[:, number] - batch["log_q"]
            losses[task] = catalogue_loss(query, values, offsets, target, weight)
        distil = distillation(model, content, ids)
        weights = {NEXT_TASK: 1.0, LIKE_TASK: config.like_weight, RATING_TASK: config.rating_weight}
        total = tf.add_n([weights[task] * loss for task, loss in losses.items()])
        total += config.distil_weight * distil
        return total, {"loss": total, **{f"loss_{k}": v for k, v in losses.items()}, "distil": distil}

    return loss


def _star_loss(
    model: WarmstartModel, query: Tensor, rows: ItemRows, target: Tensor, stars: Tensor, weight: Tensor
) -> Tensor:
    """Of stars foretold at P places, items' own biases and the mean given. query [P, dim]; target [P],
    columns of rows; stars, weight [P]."""
    output = tf.gather(rows.output, target)
    known = tf.stop_gradient(output[:, -1] + model.offset(RATING_TASK))
    said = tf.reduce_sum(query * output[:, : model.config.dim], axis=1)
    return squared_loss(said + known, stars, weight)


def _presence(batch: Mapping[str, Tensor], rate: float, noise: Noise) -> Tensor:
    """[M]: 1 where an item keeps its id this step."""
    return tf.cast(noise.uniform(tf.shape(batch["log_q"])) >= rate, tf.float32)


def distillation(model: WarmstartModel, content_rows: Tensor, ids: Tensor) -> Tensor:
    """How far rows of content and absence alone are from full rows, in units of each row kind's variance.

    content_rows, ids: [M, id_dim]. Only the content side follows the full rows, not the other way; ratings'
    rows take no part, theirs follow in closed form.
    """
    full = tf.stop_gradient(ids + content_rows)
    alone = model.tower.absence.value + content_rows
    dims = model.config.row_dims
    parts = zip(dims, *(tf.split(rows, list(dims.values()), axis=1) for rows in (full, alone)), strict=True)
    losses = [
        tf.reduce_mean((one - other) ** 2) / (tf.reduce_mean(tf.math.reduce_variance(one, axis=0)) + 1e-6)
        for name, one, other in parts
        if name != "r"
    ]
    return tf.add_n(losses) / len(losses)
