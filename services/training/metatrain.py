"""Stage two: training on episodes, so that a few support events tell as much as they can.

The body alone, without fast weights: it never leans on them, and what an adapter then adds (`adapt`) is its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.calibrate import offset_for
from services.training.data import TrainingData
from services.training.episode_batch import episode_batch, like_loss, rating_loss, score_episodes
from services.training.episodes import EpisodeShape, draw_episodes
from services.training.loop import (
    AVERAGE,
    FOLLOW_EVERY,
    Average,
    Best,
    Hooks,
    Objective,
    Rates,
    Trainer,
    TrainState,
    Worker,
    marked,
    run_stage,
    unmarked,
)
from services.training.pretrain import distillation
from services.training.reactions import ReactionConfig, reaction_loss
from services.training.validate import look
from services.training.windows import Batch, generator
from shared.domain import IntArray
from shared.holdout import Role
from shared.modeling.config import CHOICES, LIKE_TASK, NEXT_TASK, RATING_TASK
from shared.modeling.losses import set_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import SILENCE, Noise

Tensor = Any
_STAGE = 2
# Prefix of the fields and metrics of the scales' objective.
_SCALES = "scales_"
_OFFSET_EPISODES = 64


@dataclass(frozen=True, slots=True)
class MetaConfig:
    """steps of batch_episodes episodes; see `episodes.EpisodeShape` for how they are drawn.

    validate_every: steps between looks at validation people; the best weights by their mean NDCG@10
    over `validation_shots` are kept. average: momentum, by five steps, of the moving average of the
    weights, which is what is validated and kept. id_dropout and weights of losses: as in
    pre-training. body_rate: learning rate of rows, tower and encoder, where `rates` has that of heads and
    biases: the longer a body was pre-trained, the less it should move. like_sigmoid: share of binary
    cross-entropy in the loss of `like`, see `like_loss`. scale_rate, scale_episodes: of the objective of the
    scales, see `_objectives`.
    """

    steps: int = 800
    batch_episodes: int = 96
    shape: EpisodeShape = field(default_factory=EpisodeShape)
    id_dropout: float = 0.1
    like_weight: float = 0.5
    like_sigmoid: float = 0.5
    rating_weight: float = 0.1
    distil_weight: float = 0.1
    scale_rate: float = 1e-2
    scale_episodes: int = 16
    rates: Rates = field(default_factory=lambda: Rates(rate=5e-4))
    body_rate: float = 5e-4
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
    """Trains the model in place on episodes of training people, all but what belongs to its adapter; keeps
    the best validated weights.

    `batch_episodes` must divide by the number of workers; see `pretrain` for determinism.

    Returns:
        The last training metrics, and `validation_ndcg` of the weights kept.
    """
    worker = Worker(strategy)
    users, judges = data.users_of(Role.TRAIN), data.users_of(Role.VALIDATION)
    if data.blind:  # made-up reactions are said too
        config = replace(config, reactions=replace(config.reactions, weight=0.0))
    trainer = Trainer(model, _objectives(model, config), config.rates, config.steps, worker)
    scale_users = judges if np.any(data.lengths[judges] > 1) else users
    if hooks.resume is None:
        _start_offset(model, data, scale_users, config.shape, generator(seed, _STAGE, config.steps))
    average, best = Average(model, config.average), Best(model)
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        average.load(unmarked(hooks.resume.arrays, AVERAGE))
        best.load(hooks.resume.arrays)

    def make(step: int) -> Batch:
        rng = generator(seed, _STAGE, step)
        cuts = draw_episodes(data, users, config.batch_episodes, config.shape, rng)
        mine = cuts.part(worker.number, worker.count)
        batch = episode_batch(data, mine, config.shape, rng, config.reactions)
        cuts = draw_episodes(data, scale_users, config.scale_episodes, config.shape, rng)
        part = episode_batch(data, cuts.part(worker.number, worker.count), config.shape, rng)
        return batch | {_SCALES + name: column for name, column in part.items()}

    def follow(done: int) -> None:
        if done % FOLLOW_EVERY == 0 or done == config.steps:
            average.follow(done / FOLLOW_EVERY)

    def judge() -> float:
        with average.in_place():
            seen = look(model, data, judges, config.validation_shots)
            best.offer(seen, model.state_arrays)
        return seen

    def state(done: int) -> TrainState:
        kept = best.marked() | marked(average.arrays, AVERAGE)
        return TrainState("meta-train", done, trainer.arrays() | kept)

    metrics = run_stage(
        trainer,
        make,
        config.steps,
        seed=seed,
        hooks=hooks,
        state=state,
        follow=follow,
        look=judge,
        look_every=config.validate_every,
    )
    model.load_arrays(best.arrays)
    return {**metrics, "validation_ndcg": best.ndcg}


def _start_offset(
    model: WarmstartModel, data: TrainingData, users: IntArray, shape: EpisodeShape, rng: np.random.Generator
) -> None:
    """The offset by which the probabilities of `like` add up to the likes there are; training goes on from
    there. Without it, the first steps would do nothing but push all scores down."""
    batch = episode_batch(data, draw_episodes(data, users, _OFFSET_EPISODES, shape, rng), shape, rng)
    scored = score_episodes(model, batch)
    shown = batch["excluded"] == 0
    scores = (scored.logits[CHOICES.index(LIKE_TASK)].numpy() + batch["log_q"])[shown]
    copies = np.broadcast_to(np.exp(-batch["log_q"]), shown.shape)[shown]
    likes = max(float(batch[f"{LIKE_TASK}_weight"].sum()), 0.5)
    offsets = model.heads.offsets.numpy()
    offsets[CHOICES.index(LIKE_TASK)] = offset_for(scores, likes, copies)
    model.heads.offsets.assign(offsets)


def _objectives(model: WarmstartModel, config: MetaConfig) -> list[Objective]:
    """Rows, encoder and heads learn from training people, τ and the offset of `like` from validation people:
    rows have seen the very events that training people's episodes ask for, so on those scores look surer
    than a stranger's are."""
    heads = [model.tables["b"], *model.heads.maps.trainable_variables]
    body = [model.tables[name] for name in ("e", "v")]
    body += [*model.tower.trainable_variables, *model.encoder.trainable_variables]
    silent = replace(config.reactions, weight=0.0)
    quiet = _loss(model, replace(config, id_dropout=0.0, distil_weight=0.0, reactions=silent))
    return [
        Objective(_loss(model, config), [(body, config.body_rate), (heads, config.rates.rate)]),
        Objective(
            lambda batch, _: quiet(batch, SILENCE),
            [([model.heads.log_tau, model.heads.offsets], config.scale_rate)],
            _SCALES,
        ),
    ]


def _loss(model: WarmstartModel, config: MetaConfig) -> Any:
    """(batch, noise) → (loss, metrics)."""

    def loss(batch: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        scored = score_episodes(model, batch, noise=noise, id_dropout=config.id_dropout)
        losses = {
            NEXT_TASK: set_loss(scored.logits[0], batch["targets"], batch[f"{NEXT_TASK}_weight"]),
            LIKE_TASK: like_loss(model, batch, scored, config.like_sigmoid),
        }
        distil = distillation(model, scored.content, scored.ids)
        total = losses[NEXT_TASK] + config.like_weight * losses[LIKE_TASK] + config.distil_weight * distil
        if model.config.rating_dim:
            losses[RATING_TASK] = rating_loss(model, batch, scored)
            total += config.rating_weight * losses[RATING_TASK]
        metrics = {"distil": distil, **{f"loss_{k}": v for k, v in losses.items()}}
        if config.reactions.weight > 0.0:
            miss, right = reaction_loss(model, batch, scored.rows, config.reactions)
            total += config.reactions.weight * miss
            metrics |= {"reaction_miss": miss, "reaction_right": right}
        return total, {"loss": total, **metrics}

    return loss
