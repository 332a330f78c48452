"""Stage three of an adapter of the whole body: for offline comparison, in place of `adapt`.

What is meta-learned (`reptile`, MAML) goes on from the finished body, on episodes of training people; what is
not (`finetune`) has its steps and rate chosen. Both by validation people's NDCG@10 after adapting to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from services.training.body import Body
from services.training.body_scores import OwnScores, ndcg_of_next
from services.training.data import TrainingData
from services.training.episode_batch import episode_batch
from services.training.episodes import EpisodeShape, draw_episodes
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
from services.training.windows import Batch, generator
from shared.adapters.body import BodyAdapter, Pace
from shared.holdout import Role
from shared.modeling.model import WarmstartModel
from shared.modeling.random import Noise

Tensor = Any
_STAGE = 4
# Fields of a batch that all its episodes share.
_SHARED = ("log_q", "pool")
# What a checkpoint keeps beside the weights: the inner rates' logarithms, the best rates, NDCG at the start.
_RATES, _BEST_RATES, _BEFORE = "log_rates", "best_rates", "ndcg_before"


@dataclass(frozen=True, slots=True)
class BodyConfig:
    """steps of batch_episodes episodes of training people, at `rates`; learned inner rates at pace_rate.

    validate_every: steps between looks at validation people; the best weights by their NDCG@10 over
    `validation_shots` are kept, those of the start among them.
    """

    steps: int = 200
    batch_episodes: int = 8
    shape: EpisodeShape = field(default_factory=EpisodeShape)
    rates: Rates = field(default_factory=lambda: Rates(rate=1e-4, warmup=20))
    pace_rate: float = 1e-2
    validate_every: int = 50
    validation_shots: tuple[int, ...] = (1, 5, 20)


@dataclass(frozen=True, slots=True, eq=False)
class FittedBody:
    """The adapter that validation people chose, its learned pace, and figures; the model holds the weights.

    tried: NDCG@10 of validation people by settings, of each choice.
    """

    adapter: BodyAdapter
    pace: Pace
    metrics: Mapping[str, float]
    tried: tuple[tuple[Mapping[str, Any], float], ...]


def fit_body(
    model: WarmstartModel,
    adapter: BodyAdapter,
    data: TrainingData,
    config: BodyConfig,
    *,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008 (frozen)
) -> FittedBody:
    """Trains encoder and heads of a meta-trained model for the adapter, in place, or chooses its pace.

    Choosing is short and not resumed. `batch_episodes` must divide by the number of workers.
    """
    body = Body(model, rows=adapter.rows)
    if adapter.meta_learned:
        return _meta_learn(body, adapter, data, config, seed, Worker(strategy), hooks)
    return _choose(body, adapter, data, config, hooks)


def _choose(
    body: Body, adapter: BodyAdapter, data: TrainingData, config: BodyConfig, hooks: Hooks
) -> FittedBody:
    """The best of the adapter's choices."""
    judges, own, weights = data.users_of(Role.VALIDATION), OwnScores(body, adapter), body.start()
    choices, tried = adapter.choices(), []
    for done, choice in enumerate(choices, start=1):
        scores = own.of_episodes(data, weights, choice.pace(body.num_weights))
        seen = ndcg_of_next(scores, data, judges, config.validation_shots)
        tried.append((choice.settings, seen))
        if hooks.on_step:
            hooks.on_step(done, len(choices), {"validation_ndcg": seen})
        hooks.after_step(done)
    best = max(range(len(choices)), key=lambda place: tried[place][1])
    pace = choices[best].pace(body.num_weights)
    return FittedBody(choices[best], pace, {"validation_ndcg": tried[best][1]}, tuple(tried))


def _meta_learn(
    body: Body,
    adapter: BodyAdapter,
    data: TrainingData,
    config: BodyConfig,
    seed: int,
    worker: Worker,
    hooks: Hooks,
) -> FittedBody:
    """The outer loop."""
    start, users = adapter.pace(body.num_weights), data.users_of(Role.TRAIN)
    with worker.strategy.scope():
        log_rates = keras.Variable(np.log(start.rates), name="log_rates")
    groups = [(body.variables, config.rates.rate)]
    groups += [([log_rates], config.pace_rate)] if adapter.learned_rates else []
    loss = _loss(body, adapter, start.steps, log_rates)
    trainer = Trainer(body.model, [Objective(loss, groups)], config.rates, config.steps, worker)

    def make(step: int) -> Batch:
        rng = generator(seed, _STAGE, step)
        cuts = draw_episodes(data, users, config.batch_episodes, config.shape, rng)
        return episode_batch(data, cuts.part(worker.number, worker.count), config.shape, rng)

    judged = _Judged(body, adapter, start.steps, log_rates, data, config)
    if hooks.resume is None:
        judged.before = judged.look()
    else:
        trainer.load(hooks.resume.arrays)
        judged.load(hooks.resume.arrays)
    metrics = run_stage(
        trainer,
        make,
        config.steps,
        seed=seed,
        hooks=hooks,
        state=partial(judged.state, trainer),
        look=judged.look,
        look_every=config.validate_every,
    )
    best = judged.best
    body.model.load_arrays(best.arrays)
    figures = {**metrics, "validation_ndcg": best.ndcg, "validation_ndcg_at_start": judged.before}
    return FittedBody(adapter, judged.pace, figures, ((adapter.settings, best.ndcg),))


class _Judged:
    """The best validated weights and rates so far, and what validation people said before any step."""

    before = -1.0

    def __init__(
        self,
        body: Body,
        adapter: BodyAdapter,
        steps: Tensor,
        log_rates: Any,
        data: TrainingData,
        config: BodyConfig,
    ) -> None:
        self._body, self._own, self._data = body, OwnScores(body, adapter), data
        self._steps, self._log_rates, self._shots = steps, log_rates, config.validation_shots
        self.best, self.pace = Best(body.model), adapter.pace(body.num_weights)

    def look(self) -> float:
        """NDCG@10 of validation people now; keeps what is better than all before."""
        pace = Pace(self._steps, np.exp(self._log_rates.numpy()))
        scores = self._own.of_episodes(self._data, self._body.start(), pace)
        seen = ndcg_of_next(scores, self._data, self._data.users_of(Role.VALIDATION), self._shots)
        if self.best.offer(seen, self._body.model.state_arrays):
            self.pace = pace
        return seen

    def state(self, trainer: Trainer, done: int) -> TrainState:
        """All that the stage needs to go on."""
        own = {
            _RATES: self._log_rates.numpy(),
            _BEST_RATES: np.asarray(self.pace.rates),
            _BEFORE: np.array(self.before),
        }
        return TrainState("adapt", done, trainer.arrays() | self.best.marked() | own)

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a checkpoint's."""
        self.best.load(arrays)
        self._log_rates.assign(arrays[_RATES])
        self.pace, self.before = Pace(self._steps, arrays[_BEST_RATES]), float(arrays[_BEFORE])


def _loss(body: Body, adapter: BodyAdapter, steps: Tensor, log_rates: Any) -> Any:
    """(batch, noise) → (outer loss, metrics): the mean over a batch's episodes. Item rows stay."""
    catalogue = body.catalogue()

    def loss(batch: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        table, weights = catalogue.columns(batch.get("pool"), batch["log_q"]), body.start()
        pace = Pace(steps, tf.exp(log_rates.value))

        def of(person: Mapping[str, Tensor]) -> Tensor:
            one = {name: column[None] for name, column in person.items()}
            return adapter.outer_loss(body.episode(one, table, noise), weights, pace)

        people = {name: column for name, column in batch.items() if name not in _SHARED}
        total = tf.reduce_mean(tf.map_fn(of, people, fn_output_signature=tf.float32))
        return total, {"loss": total}

    return loss
