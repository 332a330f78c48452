"""Stage two: training on episodes, so that a few support events tell as much as they can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from services.training.loop import Hooks, Rates, Trainer, TrainState, Worker, numbers
from services.training.pretrain import distillation
from services.training.reactions import ReactionConfig, reaction_inputs, reaction_loss
from services.training.validate import validation_ndcg
from services.training.windows import LIKED_LABEL, Batch, Cuts, generator, make_pool
from shared.holdout import Role
from shared.modeling.config import LIKE_TASK, NEXT_TASK, TASKS
from shared.modeling.losses import correct, exclude, set_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import Noise

Tensor = Any
_STAGE = 2
# Where a checkpoint keeps the best validated weights so far.
_BEST = "best"


@dataclass(frozen=True, slots=True)
class MetaConfig:
    """steps of batch_episodes episodes; see `episodes.EpisodeShape` for how they are drawn.

    validate_every: steps between looks at validation people; the best weights by their mean NDCG@10
    over `validation_shots` are kept. action_share, id_dropout, pool_items, like_weight, distil_weight:
    as in pre-training.
    """

    steps: int = 1000
    batch_episodes: int = 96
    max_shots: int = 20
    shape: EpisodeShape = field(default_factory=EpisodeShape)
    action_share: float = 0.5
    id_dropout: float = 0.2
    pool_items: int = 8000
    like_weight: float = 0.5
    distil_weight: float = 0.1
    scale_rate: float = 1e-2
    rates: Rates = field(default_factory=lambda: Rates(rate=5e-4))
    reactions: ReactionConfig = field(default_factory=ReactionConfig)
    validate_every: int = 100
    validation_shots: tuple[int, ...] = (1, 2, 5, 10, 20)


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
    trainer = Trainer(model, _loss(model, config), _groups(model, config), config.rates, config.steps, worker)
    first = 0
    best, best_arrays = -1.0, model.state_arrays()
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        first = hooks.resume.step
        best, best_arrays = _best_so_far(hooks.resume)
    metrics: Mapping[str, Tensor] = {}
    for step in range(first, config.steps):
        rng = generator(seed, _STAGE, step)
        cuts = draw_episodes(data, users, config.batch_episodes, config.shape, rng)
        batch = episode_batch(data, cuts.part(worker.number, worker.count), config, rng)
        metrics = trainer.step(batch, seed, step)
        done = step + 1
        report = dict(numbers(metrics)) if done % hooks.report_every == 0 or done == config.steps else {}
        if done % config.validate_every == 0 or done == config.steps:
            value = validation_ndcg(model, data, judges, config.validation_shots)
            report = {**numbers(metrics), "validation_ndcg": value}
            if value > best:
                best, best_arrays = value, model.state_arrays()
        if hooks.on_step and report:
            hooks.on_step(done, config.steps, report)
        if hooks.on_checkpoint and hooks.checkpoint_every and done % hooks.checkpoint_every == 0:
            kept = {f"{_BEST}/{path}": array for path, array in best_arrays.items()}
            arrays = {**trainer.arrays(), **kept, _BEST: np.array(best)}
            hooks.on_checkpoint(TrainState("meta-train", done, arrays))
    model.load_arrays(best_arrays)
    return {**numbers(metrics), "validation_ndcg": best}


def _best_so_far(state: TrainState) -> tuple[float, dict[str, Any]]:
    """The best validated weights that a checkpoint carries, and their validation NDCG."""
    marked = f"{_BEST}/"
    arrays = {path.removeprefix(marked): a for path, a in state.arrays.items() if path.startswith(marked)}
    return float(state.arrays[_BEST]), arrays


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


def _groups(model: WarmstartModel, config: MetaConfig) -> list[tuple[list[Any], float]]:
    """Variables by learning rate: scales and adapter fast, ψ and φ slowly."""
    gentle = [model.tables[name] for name in ("e", "v", "b")]
    gentle += [*model.tower.trainable_variables, *model.encoder.trainable_variables]
    slow = [model.tables[name] for name in ("psi", "phi")] if model.adapter.learns_rows else []
    scales = [model.heads.log_tau, model.heads.log_gamma, *model.adapter.trainable_variables]
    gentle += model.heads.maps.trainable_variables
    return [(scales, config.scale_rate), (gentle, config.rates.rate), (slow, config.rates.slow)]


def _loss(model: WarmstartModel, config: MetaConfig) -> Any:
    """(batch, noise) → (loss, metrics)."""
    dim, adapt_dim = model.config.dim, model.config.adapt_dim

    def loss(batch: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        ids, content = model.id_rows(batch.get("pool")), model.content_rows(batch.get("pool"))
        present = tf.cast(noise.uniform(tf.shape(batch["log_q"])) >= config.id_dropout, tf.float32)
        rows = model.tower.fuse(ids, present, content)
        on = batch["mask"][..., None]
        inputs = {
            **batch,
            "input_rows": tf.gather(rows.input, batch["items"]) * on,
            "support_rows": tf.gather(rows.support, batch["items"]) * on,
        }
        queries, _, _ = model.encode_adapt(inputs, tf.ones(tf.shape(on)[:1]), noise)
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
            shortfall, right = reaction_loss(model, batch, rows, config.reactions)
            total += config.reactions.weight * shortfall
            metrics |= {"reaction_shortfall": shortfall, "reaction_right": right}
        return total, {"loss": total, **metrics}

    return loss
