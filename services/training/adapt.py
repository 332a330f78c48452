"""Stage three: an adapter learns what its fast weights add to a body that is finished.

The body, meta-trained without fast weights, stays as it is. So adaptation on and off differ by what is
adapted alone, and little is learned: ψ, φ and the adapter's few numbers. Transitions (`follow`) come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.episode_batch import episode_batch, score_episodes
from services.training.episodes import EpisodeShape, draw_episodes
from services.training.follow import follow
from services.training.loop import (
    Best,
    Hooks,
    Objective,
    Rates,
    Trainer,
    TrainState,
    Worker,
    run_stage,
)
from services.training.validate import Chosen, choose_gamma
from services.training.windows import Batch, generator
from shared.holdout import Role
from shared.modeling.config import CHOICES, LIKE_TASK, NEXT_TASK
from shared.modeling.losses import set_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import SILENCE, Noise

Tensor = Any
_STAGE = 3
# Prefix of the fields and metrics of the adapter's own objective.
_OWN = "own_"


@dataclass(frozen=True, slots=True)
class AdaptConfig:
    """steps of batch_episodes episodes of training people for ψ, φ and the adapter's network (at its
    network_rate), and own_episodes of validation people for the adapter's numbers (at own_rate).

    validate_every: steps between looks at validation people; the best weights by their mean NDCG@10 over
    `validation_shots` are kept, with the γ that suits them. The rest as in meta-training.
    """

    steps: int = 300
    batch_episodes: int = 48
    own_episodes: int = 16
    shape: EpisodeShape = field(default_factory=EpisodeShape)
    like_weight: float = 0.5
    rates: Rates = field(default_factory=lambda: Rates(rate=3e-4))
    own_rate: float = 3e-2
    validate_every: int = 100
    validation_shots: tuple[int, ...] = (1, 2, 5, 10, 20)


def fit_adapter(
    model: WarmstartModel,
    data: TrainingData,
    config: AdaptConfig,
    *,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008 (frozen)
) -> dict[str, float]:
    """Trains ψ, φ, the adapter and γ of a model whose body is meta-trained, in place; keeps the best
    validated weights, and gives the model its transitions.

    `batch_episodes` and `own_episodes` must divide by the number of workers. A model whose adapter has no
    fast weights stays as it is.

    Returns:
        The last training metrics, and validation people's NDCG@10 by the weights kept, without transitions
        and with them.
    """
    if not model.adapter.learns_rows:
        return {}
    worker = Worker(strategy)
    users, judges = data.users_of(Role.TRAIN), data.users_of(Role.VALIDATION)
    own_users = judges if np.any(data.lengths[judges] > 1) else users
    trainer = Trainer(model, _objectives(model, config), config.rates, config.steps, worker)

    def make(step: int) -> Batch:
        rng = generator(seed, _STAGE, step)
        batch: Batch = {}
        for who, size, prefix in ((users, config.batch_episodes, ""), (own_users, config.own_episodes, _OWN)):
            cuts = draw_episodes(data, who, size, config.shape, rng).part(worker.number, worker.count)
            part = episode_batch(data, cuts, config.shape, rng)
            batch |= {prefix + name: column for name, column in part.items()}
        return batch

    best = Best(model)
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        best.load(hooks.resume.arrays)

    def judge() -> float:
        seen = choose_gamma(model, data, judges, config.validation_shots)
        best.offer(seen.ndcg, partial(_with_gamma, model, seen))
        return seen.ndcg

    def state(done: int) -> TrainState:
        return TrainState("adapt", done, trainer.arrays() | best.marked())

    metrics = run_stage(
        trainer,
        make,
        config.steps,
        seed=seed,
        hooks=hooks,
        state=state,
        look=judge,
        look_every=config.validate_every,
    )
    model.load_arrays(best.arrays)
    found = follow(model, data, config.validation_shots)
    return {
        **metrics,
        "validation_ndcg_of_fast_weights": best.ndcg,
        "validation_ndcg": found if model.config.successors else best.ndcg,
    }


def _with_gamma(model: WarmstartModel, seen: Chosen) -> dict[str, Any]:
    """The model's arrays with γ as validation people want it."""
    arrays = model.state_arrays()
    path = model.heads.log_gamma.path
    arrays[path] = arrays[path] + np.log(np.array(seen.factors, np.float32))
    return arrays


def _objectives(model: WarmstartModel, config: AdaptConfig) -> list[Objective]:
    """Rows and networks learn from training people, the adapter's numbers from validation people: rows have
    seen the very events that training people's episodes ask for, so on them fast weights look better than
    they are."""
    loss = _loss(model, config)
    rows = [model.tables[name] for name in ("psi", "phi")]
    return [
        Objective(
            loss, [(rows, config.rates.rate), (model.adapter.network_variables, model.adapter.network_rate)]
        ),
        Objective(
            lambda batch, _: loss(batch, SILENCE),
            [(model.adapter.own_variables, config.own_rate)],
            _OWN,
        ),
    ]


def _loss(model: WarmstartModel, config: AdaptConfig) -> Any:
    """(batch, noise) → (loss, metrics): of the body's scores and what the fast weights add."""
    first, last = model.config.adapt_offset, model.config.adapt_offset + model.config.adapt_dim

    def loss(batch: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        scored = score_episodes(model, batch, support_noise=noise)
        phi = noise.dropout(scored.rows.output[:, first:last], model.config.adapt_dropout)
        losses = {}
        for number, task in enumerate(CHOICES):
            added = tf.matmul(scored.queries[:, number, first:last], phi, transpose_b=True)
            logits = tf.stop_gradient(scored.logits[number]) + added
            losses[task] = set_loss(logits, batch["targets"], batch[f"{task}_weight"])
        total = losses[NEXT_TASK] + config.like_weight * losses[LIKE_TASK]
        return total, {"loss": total, **{f"loss_{k}": v for k, v in losses.items()}}

    return loss
