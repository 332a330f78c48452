"""Stage two: training on episodes, so that a few support events tell as much as they can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.episodes import (
    EpisodeShape,
    draw_episodes,
    episode_inputs,
    events_so_far,
    excluded,
    query_sets,
)
from services.training.loop import (
    Average,
    Hooks,
    Objective,
    Rates,
    Trainer,
    TrainState,
    Worker,
    ahead,
    numbers,
)
from services.training.pretrain import distillation
from services.training.reactions import ReactionConfig, reaction_inputs, reaction_loss
from services.training.validate import Look, look
from services.training.windows import LIKED_LABEL, Batch, Cuts, generator, make_pool
from shared.holdout import Role
from shared.modeling.config import LIKE_TASK, NEXT_TASK, TASKS
from shared.modeling.losses import correct, exclude, set_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import SILENCE, Noise

Tensor = Any
_STAGE = 2
# Prefix of the fields and metrics of the scales' objective.
_SCALES = "scales_"
# Where a checkpoint keeps the best validated weights so far.
_BEST = "best"
# … and the average of the weights.
_AVERAGE = "average"
# Steps from one look at the weights to be averaged to the next.
_FOLLOW_EVERY = 5


@dataclass(frozen=True, slots=True)
class MetaConfig:
    """steps of batch_episodes episodes; see `episodes.EpisodeShape` for how they are drawn.

    validate_every: steps between looks at validation people; the best weights by their mean NDCG@10
    over `validation_shots` are kept. average: momentum, by five steps, of the moving average of the
    weights, which is what is validated and kept. action_share, id_dropout, pool_items, like_weight,
    distil_weight: as in pre-training. adapt_share: share of episodes with fast weights; without them in
    the others, the encoder does not lean on them.
    scale_rate, scale_episodes: of the objective of the scales, see `_objectives`.
    """

    steps: int = 1000
    batch_episodes: int = 96
    shape: EpisodeShape = field(default_factory=EpisodeShape)
    action_share: float = 0.5
    id_dropout: float = 0.1
    pool_items: int = 8000
    like_weight: float = 0.5
    distil_weight: float = 0.1
    scale_rate: float = 1e-2
    adapt_share: float = 0.25
    scale_episodes: int = 16
    rates: Rates = field(default_factory=lambda: Rates(rate=5e-4))
    reactions: ReactionConfig = field(default_factory=ReactionConfig)
    average: float = 0.95
    validate_every: int = 100
    validation_shots: tuple[int, ...] = (0, 1, 2, 5, 10, 20)


def meta_train(
    model: WarmstartModel,
    data: TrainingData,
    config: MetaConfig,
    *,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008 (frozen)
) -> dict[str, float]:
    """Trains the whole model in place on episodes of training people; keeps the best validated weights.

    `batch_episodes` must divide by the number of workers; see `pretrain` for determinism.
    For the arm "adaptation off" give it a model with adapter `none` that starts from the same
    pre-trained arrays (`model.load_arrays`).

    Returns:
        The last training metrics, and `validation_ndcg` of the weights kept.
    """
    worker = Worker(strategy)
    users, judges = data.users_of(Role.TRAIN), data.users_of(Role.VALIDATION)
    trainer = Trainer(model, _objectives(model, config), config.rates, config.steps, worker)
    scale_users = judges if np.any(data.lengths[judges] > 1) else users
    average = Average(model, config.average)
    first = 0
    best, best_arrays = -1.0, model.state_arrays()
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        first = hooks.resume.step
        average.load(_unmarked(hooks.resume.arrays, _AVERAGE))
        best, best_arrays = float(hooks.resume.arrays[_BEST]), _unmarked(hooks.resume.arrays, _BEST)
    metrics: Mapping[str, Tensor] = {}

    def make(step: int) -> Batch:
        rng = generator(seed, _STAGE, step)
        cuts = draw_episodes(data, users, config.batch_episodes, config.shape, rng)
        batch = episode_batch(data, cuts.part(worker.number, worker.count), config, rng)
        cuts = draw_episodes(data, scale_users, config.scale_episodes, config.shape, rng)
        part = episode_batch(data, cuts.part(worker.number, worker.count), _without_extras(config), rng)
        return batch | {_SCALES + name: column for name, column in part.items()}

    for step, batch in ahead(make, range(first, config.steps)):
        metrics = trainer.step(batch, seed, step)
        done = step + 1
        if done % _FOLLOW_EVERY == 0 or done == config.steps:
            average.follow(done / _FOLLOW_EVERY)
        report = dict(numbers(metrics)) if done % hooks.report_every == 0 or done == config.steps else {}
        if done % config.validate_every == 0 or done == config.steps:
            with average.in_place():
                seen = look(model, data, judges, config.validation_shots)
                if seen.ndcg > best:
                    best, best_arrays = seen.ndcg, _with_gamma(model, seen)
            report = {**numbers(metrics), "validation_ndcg": seen.ndcg}
        if hooks.on_step and report:
            hooks.on_step(done, config.steps, report)
        kept = partial(_state, done, trainer, average, best, best_arrays)
        hooks.after_step(done, kept)
    model.load_arrays(best_arrays)
    return {**numbers(metrics), "validation_ndcg": best}


def _state(
    done: int, trainer: Trainer, average: Average, best: float, best_arrays: Mapping[str, Any]
) -> TrainState:
    """All that the stage needs to go on."""
    kept = _marked(best_arrays, _BEST) | _marked(average.arrays, _AVERAGE)
    return TrainState("meta-train", done, {**trainer.arrays(), **kept, _BEST: np.array(best)})


def _with_gamma(model: WarmstartModel, seen: Look) -> dict[str, Any]:
    """The model's arrays with γ as validation people want it."""
    arrays = model.state_arrays()
    arrays[model.heads.log_gamma.path] = arrays[model.heads.log_gamma.path] + np.log(
        np.array(seen.factors, np.float32)
    )
    return arrays


def _marked(arrays: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """As a checkpoint keeps them beside the weights themselves."""
    return {f"{mark}/{path}": array for path, array in arrays.items()}


def _unmarked(arrays: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """The inverse, from all arrays of a checkpoint."""
    return {path.removeprefix(f"{mark}/"): a for path, a in arrays.items() if path.startswith(f"{mark}/")}


def episode_batch(data: TrainingData, cuts: Cuts, config: MetaConfig, rng: np.random.Generator) -> Batch:
    """Model inputs of the support sets, query sets as columns of the pool, and what is masked."""
    batch = episode_inputs(
        data,
        cuts,
        config.shape.max_shots,
        action_share=config.action_share,
        thin_share=config.shape.thin_share,
        rng=rng,
    )
    targets, there, labels = query_sets(data, cuts, config.shape.query)
    if config.reactions.weight > 0.0:
        batch |= reaction_inputs(data, batch, targets, config.reactions, rng)
    needed = np.concatenate([batch["items"].ravel(), targets.ravel()])
    pool = make_pool(data, needed, config.pool_items, rng)
    out = excluded(events_so_far(data, cuts), data.num_items)
    for name in ("items", "reaction_items", "reaction_item"):
        if name in batch:
            batch[name] = pool.columns(batch[name])
    batch["targets"] = pool.columns(targets)
    batch[f"{NEXT_TASK}_weight"] = there
    batch[f"{LIKE_TASK}_weight"] = there * (labels >= LIKED_LABEL)
    batch["excluded"] = out if pool.items is None else out[:, pool.items]
    # A target that the person has had before stays a target.
    np.put_along_axis(batch["excluded"], batch["targets"], 0, axis=1)
    batch["log_q"] = pool.log_q
    if pool.items is not None:
        batch["pool"] = pool.items
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in batch.items()}


def _objectives(model: WarmstartModel, config: MetaConfig) -> list[Objective]:
    """Rows and encoder learn from training people; τ and the adapter's few numbers from validation people.

    Rows have seen the very events that training episodes ask for, so on training people scores look surer
    and fast weights better than they are on a stranger. For γ see `validate.look`.
    """
    rows = [model.tables[name] for name in ("e", "v", "b")]
    rows += [*model.tower.trainable_variables, *model.encoder.trainable_variables]
    rows += model.heads.maps.trainable_variables
    slow = [model.tables[name] for name in ("psi", "phi")] if model.adapter.learns_rows else []
    scales = [model.heads.log_tau, *model.adapter.trainable_variables]
    quiet = _loss(model, _without_extras(config))
    return [
        Objective(_loss(model, config), [(rows, config.rates.rate), (slow, config.rates.slow)]),
        Objective(lambda batch, _: quiet(batch, SILENCE), [(scales, config.scale_rate)], _SCALES),
    ]


def _without_extras(config: MetaConfig) -> MetaConfig:
    """The plain loss of a stranger's episode: as in serving, adapted to, and no item loses its id."""
    silent = replace(config.reactions, weight=0.0)
    return replace(config, adapt_share=1.0, id_dropout=0.0, distil_weight=0.0, reactions=silent)


def _loss(model: WarmstartModel, config: MetaConfig) -> Any:
    """(batch, noise) → (loss, metrics)."""
    dim, adapt_dim = model.config.dim, model.config.adapt_dim

    def loss(batch: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        content = model.content_rows(batch.get("pool"))
        ids = model.id_rows(content, batch.get("pool"))
        present = tf.ones_like(batch["log_q"])
        if config.id_dropout > 0.0:
            present = tf.cast(noise.uniform(tf.shape(present)) >= config.id_dropout, tf.float32)
        rows = model.tower.fuse(ids, present, content)
        on = batch["mask"][..., None]
        inputs = {
            **batch,
            "input_rows": tf.gather(rows.input, batch["items"]) * on,
            "support_rows": tf.gather(rows.support, batch["items"]) * on,
        }
        adapt = tf.ones(tf.shape(on)[:1])
        if config.adapt_share < 1.0:
            adapt = tf.cast(noise.uniform(tf.shape(on)[:1]) < config.adapt_share, tf.float32)
        queries, _, _ = model.encode_adapt(inputs, adapt, noise)
        v, phi, b = tf.split(rows.output, [dim, adapt_dim, len(TASKS)], axis=1)
        output = tf.concat([v, noise.dropout(phi, model.config.adapt_dropout), b], axis=1)
        losses = {}
        for number, task in enumerate(TASKS):
            logits = correct(tf.matmul(queries[:, number], output, transpose_b=True), batch["log_q"])
            losses[task] = set_loss(
                exclude(logits, batch["excluded"]), batch["targets"], batch[f"{task}_weight"]
            )
        distil = distillation(model, content, ids)
        total = losses[NEXT_TASK] + config.like_weight * losses[LIKE_TASK] + config.distil_weight * distil
        metrics = {"distil": distil, **{f"loss_{k}": v for k, v in losses.items()}}
        if config.reactions.weight > 0.0:
            miss, right = reaction_loss(model, batch, rows, config.reactions)
            total += config.reactions.weight * miss
            metrics |= {"reaction_miss": miss, "reaction_right": right}
        return total, {"loss": total, **metrics}

    return loss
