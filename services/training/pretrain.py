"""Stage one: the encoder learns to predict what comes next at every place of every window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.asof import content_profiles, request_vectors, social_profiles
from services.training.data import TrainingData
from services.training.loop import (
    AVERAGE,
    FOLLOW_EVERY,
    Average,
    Hooks,
    Objective,
    Rates,
    Trainer,
    TrainState,
    Worker,
    ahead,
    marked,
    numbers,
    unmarked,
)
from services.training.ratings import start_ratings
from services.training.windows import (
    LIKED_LABEL,
    Batch,
    Cuts,
    draw_cuts,
    event_inputs,
    generator,
    make_pool,
    places,
    rated,
    vary_actions,
)
from shared.context.batch import bucket_for
from shared.domain import FloatArray, IntArray
from shared.holdout import Role
from shared.modeling.config import LIKE_TASK, NEXT_TASK, RATING_TASK, TASKS, ModelConfig
from shared.modeling.initial import InitialRows, initial_rows
from shared.modeling.item_tower import ItemRows
from shared.modeling.losses import catalogue_loss, squared_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import Noise

Tensor = Any
_STAGE = 1
# Steps whose windows are drawn at once where they are dealt out by length.
_STEPS_TOGETHER = 8
# Root mean square of the starting e and v that come from the item-item SVD.
ROW_SCALE = 0.15


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """steps of batch_windows windows of at most `window` events.

    lengths: what batches of shorter windows are padded to, ascending and below `window`; windows of like
    length make a batch then. horizon: the target of a place is drawn among the next so many events;
    positions: how many places a task's loss takes of a batch of full length, over the whole batch, and in
    proportion of a shorter one; id_dropout: share of items whose
    id is hidden at a step; first_share: share of windows that begin with a person's first event;
    action_share: share of windows whose ratings are said as other actions; pool_items:
    columns of the softmax where the catalogue is too large for a full one; like_weight, rating_weight: of
    these tasks' losses, where that of `next` has 1; average: momentum, by five steps, of the moving average
    of the weights, which is what is kept (0 = the last weights).
    """

    steps: int = 800
    batch_windows: int = 64
    window: int = 32
    lengths: tuple[int, ...] = ()
    horizon: int = 5
    positions: tuple[int, int, int] = (640, 256, 256)
    id_dropout: float = 0.1
    first_share: float = 0.3
    last_share: float = 0.0
    action_share: float = 0.5
    pool_items: int = 8000
    like_weight: float = 0.5
    rating_weight: float = 0.1
    distil_weight: float = 0.1
    average: float = 0.0
    rates: Rates = field(default_factory=Rates)


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
) -> dict[str, float]:
    """Trains tables, tower, encoder and sequence heads in place.

    The same on every worker: each step's batch is a function of (seed, step), and each worker takes
    its equal share of it, so `batch_windows` must divide by the number of workers.

    Args:
        model: from `new_model`, built under the strategy's scope.
        data: only people of role TRAIN are trained on.
        hooks: progress, checkpoints and resumption.

    Returns:
        The last metrics: loss, loss by task.
    """
    worker = Worker(strategy)
    users = data.users_of(Role.TRAIN)
    objective = Objective(_loss(model, config), [(_variables(model), config.rates.rate)])
    trainer = Trainer(model, [objective], config.rates, config.steps, worker)
    average = Average(model, config.average)
    first = 0
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        average.load(unmarked(hooks.resume.arrays, AVERAGE))
        first = hooks.resume.step
    metrics: Mapping[str, Tensor] = {}

    def make(step: int) -> Batch:
        cuts, rng = draw_windows(data, users, config, seed, step)
        return window_batch(data, cuts.part(worker.number, worker.count), config, rng, worker.count)

    for step, batch in ahead(make, range(first, config.steps)):
        metrics = trainer.step(batch, seed, step)
        done = step + 1
        if (config.average and done % FOLLOW_EVERY == 0) or done == config.steps:
            average.follow(done / FOLLOW_EVERY)
        if hooks.on_step and (done % hooks.report_every == 0 or done == config.steps):
            hooks.on_step(done, config.steps, numbers(metrics))
        hooks.after_step(done, partial(_state, done, trainer, average))
    model.load_arrays(average.arrays)
    return numbers(metrics)


def _state(done: int, trainer: Trainer, average: Average) -> TrainState:
    return TrainState("pretrain", done, {**trainer.arrays(), **marked(average.arrays, AVERAGE)})


def draw_windows(
    data: TrainingData, users: IntArray, config: PretrainConfig, seed: int, step: int
) -> tuple[Cuts, np.random.Generator]:
    """One step's windows, a function of (seed, step), and the random numbers for the rest of its batch.

    Where batches may be shorter, the windows of several steps are drawn at once and dealt out by length
    ("bucketing by length"), so that little of a batch is padding; which of them a step gets is drawn too.
    """
    together = _STEPS_TOGETHER if config.lengths else 1
    rng = generator(seed, _STAGE, step - step % together)
    counts = np.full(together * config.batch_windows, config.window, np.int64)
    cuts = draw_cuts(
        data,
        users,
        counts,
        after=1,
        first_share=config.first_share,
        last_share=config.last_share,
        rng=rng,
    )
    if together == 1:
        return cuts, rng
    by_length = np.argsort(cuts.counts, kind="stable").reshape(together, config.batch_windows)
    mine = by_length[rng.permutation(together)[step % together]]
    # Workers share a batch in order: each gets long ones and short ones.
    return cuts.take(rng.permutation(mine)), generator(seed, _STAGE, step)


def window_batch(
    data: TrainingData, cuts: Cuts, config: PretrainConfig, rng: np.random.Generator, num_workers: int
) -> Batch:
    """Inputs and targets of windows.

    The START token knows what was known at the window's start. Place 0 (START) and each event have
    one target: one of the `horizon` events after them. Targets are given as flat places of
    [B, L + 1] and columns of the pool, by task.
    """
    length = bucket_for(int(cuts.counts.max(initial=1)), (*config.lengths, config.window))
    index, mask = places(data, cuts, length)
    batch = vary_actions(event_inputs(data, index, mask), config.action_share, rng)
    starts = data.time_ms[data.offsets[cuts.users] + cuts.starts]
    batch["attributes"] = data.attributes[cuts.users]
    batch["content_profile"] = content_profiles(data, cuts.users, cuts.starts)
    batch["social_profile"] = social_profiles(data, cuts.users, starts)
    batch["request"] = request_vectors(starts)
    at, target = _targets(data, cuts, mask, config.horizon, rng)
    pool = make_pool(
        data, np.concatenate([batch["items"].ravel(), data.items[target]]), config.pool_items, rng
    )
    batch["items"] = pool.columns(batch["items"])
    batch["log_q"] = pool.log_q
    if pool.items is not None:
        batch["pool"] = pool.items
    liked = data.labels[target] >= LIKED_LABEL
    usable_by_task = (np.ones(len(at), bool), liked, rated(data.actions[target]))
    for task, usable, positions in zip(TASKS, usable_by_task, config.positions, strict=True):
        if not {LIKE_TASK: config.like_weight, RATING_TASK: config.rating_weight}.get(task, 1.0):
            continue
        size = positions * length // config.window // num_workers
        chosen = rng.permutation(np.flatnonzero(usable))[:size]
        batch |= _padded(task, at[chosen], pool.columns(data.items[target[chosen]]), size)
        if task == RATING_TASK:
            batch["stars"] = np.pad(data.values[target[chosen]], (0, size - len(chosen)))
    return batch


def _targets(
    data: TrainingData, cuts: Cuts, mask: FloatArray, horizon: int, rng: np.random.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Flat places of [B, L + 1] that have a target, and the target's place among all events."""
    places_on = np.concatenate([np.ones((len(mask), 1)), mask], axis=1) > 0
    rows, columns = np.nonzero(places_on)
    length = mask.shape[1]
    # Events of the window up to and including this place.
    so_far = np.where(columns == 0, 0, columns - (length - cuts.counts[rows]))
    so_far = np.where(columns == 0, 0, so_far)
    following = data.lengths[cuts.users[rows]] - cuts.starts[rows] - so_far
    ahead = np.floor(rng.random(len(rows)) * np.minimum(following, horizon)).astype(np.int64)
    some = following > 0
    target = data.offsets[cuts.users[rows]] + cuts.starts[rows] + so_far + ahead
    return (rows * (length + 1) + columns)[some], target[some]


def _padded(task: str, at: np.ndarray[Any, Any], columns: np.ndarray[Any, Any], size: int) -> Batch:
    count = len(at)
    flat, target, weight = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.float32)
    flat[:count], target[:count], weight[:count] = at, columns, 1.0
    return {f"{task}_at": flat, f"{task}_target": target, f"{task}_weight": weight}


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
