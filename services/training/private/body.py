"""The body of a private model: encoder, heads and the adapter's few numbers learn by noisy gradients.

Each step asks a random part of the people; what each contributes is clipped, summed over all workers, and
noise is added to the sum once. Everything after that is arithmetic on what is told already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.loop import (
    AVERAGE,
    FOLLOW_EVERY,
    Average,
    Hooks,
    TrainState,
    Worker,
    marked,
    run_stage,
    unmarked,
)
from services.training.private.config import PrivateConfig
from services.training.private.episodes import contributions, sampled
from services.training.private.gradients import Adam, ClippedSum, add_to
from services.training.private.secret import Secret
from services.training.windows import Batch
from shared.adapters.evidence import before_softplus
from shared.artifacts import Mechanism
from shared.modeling.config import CHOICES, LIKE_TASK
from shared.modeling.losses import exclude, set_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import SILENCE

Tensor = Any
STAGE = "private"
# Where the scales start: development people of MovieLens-1M, by rows alone.
_TAU, _GAMMA, _NOISE = 0.1, 4.0, 1.0


def start_body(model: WarmstartModel) -> None:
    """Starting values that know nothing of people: the encoder asks for what is like the mean of the events'
    rows, START says nothing, and fast weights count for what rows alone make best of them."""
    encoder, heads = model.encoder, model.heads
    encoder.start_by_averaging()
    heads.start_by_passing_on()
    for layer in (*encoder.start.values(), encoder.values, encoder.gaps, encoder.counts):
        layer.kernel.assign(np.zeros(layer.kernel.shape, np.float32))
    for weight in (encoder.actions, encoder.start_token):
        weight.assign(np.zeros(weight.shape, np.float32))
    for block in encoder.blocks:
        block.narrow.kernel.assign(np.zeros(block.narrow.kernel.shape, np.float32))
    heads.log_tau.assign(np.full(heads.log_tau.shape, np.log(_TAU), np.float32))
    heads.log_gamma.assign(np.full(heads.log_gamma.shape, np.log(_GAMMA), np.float32))
    if model.adapter.learns_rows:
        model.adapter.noise.assign(before_softplus(_NOISE))


def trained_scales(model: WarmstartModel) -> list[Any]:
    """The few numbers that say how much each part of a score counts."""
    return [model.heads.log_tau, model.heads.log_gamma, *model.adapter.own_variables]


def trained_weights(model: WarmstartModel) -> list[Any]:
    """Of encoder and heads, all but what START carries: profiles are of too many numbers for the noise in
    them."""
    left_out = {v.path for v in (model.heads.log_tau, model.heads.log_gamma, model.heads.offsets)}
    left_out |= {v.path for layer in model.encoder.start.values() for v in layer.trainable_variables}
    every = [*model.heads.trainable_variables, *model.encoder.trainable_variables]
    return [v for v in every if v.path not in left_out]


def train_body(
    model: WarmstartModel,
    data: TrainingData,
    config: PrivateConfig,
    mechanism: Mechanism,
    secret: Secret,
    people: float,
    *,
    whole: bool,
    strategy: tf.distribute.Strategy | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008 (frozen)
) -> dict[str, float]:
    """Trains in place, for `mechanism.steps` steps whatever comes of it. people: how many there are, as told
    privately; whole: whether the weights are trained too, or the scales alone.

    Who takes part, what of theirs, and the noise are functions of (secret, step), on every worker alike.
    Returns the last metrics.
    """
    worker = Worker(strategy)
    trainer = _Trainer(model, config, mechanism, secret, people, whole, worker)
    average = Average(model, config.average)
    if hooks.resume is not None:
        trainer.load(hooks.resume.arrays)
        average.load(unmarked(hooks.resume.arrays, AVERAGE))

    def make(step: int) -> list[Batch]:
        people = sampled(data, mechanism.sampling, secret, step)
        mine = contributions(
            data,
            people,
            config.contribution,
            secret,
            step,
            worker=worker.number,
            num_workers=worker.count,
        )
        return list(mine)

    def follow(done: int) -> None:
        if done % FOLLOW_EVERY == 0 or done == mechanism.steps:
            average.follow(done / FOLLOW_EVERY)

    def state(done: int) -> TrainState:
        return TrainState(STAGE, done, trainer.arrays() | marked(average.arrays, AVERAGE))

    metrics = run_stage(trainer, make, mechanism.steps, seed=0, hooks=hooks, state=state, follow=follow)
    model.load_arrays(average.arrays)
    return metrics


class _Trainer:
    """One noisy step of Adam after another; see `loop.Steps`."""

    def __init__(
        self,
        model: WarmstartModel,
        config: PrivateConfig,
        mechanism: Mechanism,
        secret: Secret,
        people: float,
        whole: bool,
        worker: Worker,
    ) -> None:
        self._model, self._mechanism, self._secret = model, mechanism, secret
        self._expected = mechanism.sampling * people
        self._worker = worker
        groups = [(trained_scales(model), config.scale_rate)]
        groups += [(trained_weights(model), config.rate)] if whole else []
        self._variables = [v for variables, _ in groups for v in variables]
        rates = [np.full(int(np.prod(v.shape)), rate) for variables, rate in groups for v in variables]
        self._sum = ClippedSum(person_loss(model, config), self._variables, mechanism.sensitivity)
        self._adam = Adam(np.concatenate(rates))

    def step(self, batch: list[Batch], seed: int, number: int) -> Mapping[str, Tensor]:
        """seed: not asked, everything random is the secret's. What is told of a step, to whoever watches, is
        made of the noisy sum alone: a loss without noise would give people away."""
        total = np.zeros(self._sum.size)
        for part in batch:
            total = total + self._sum(part)
        if self._worker.count > 1:
            total = _added(self._worker.strategy, total)
        deviation = self._mechanism.noise_multiplier * self._mechanism.sensitivity
        noise = deviation * self._secret.normal(self._mechanism.name, number, len(total))
        mean = (total + noise) / self._expected
        add_to(self._variables, self._adam.step(mean))
        return {"noisy_gradient": float(np.linalg.norm(mean))}

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {**self._model.state_arrays(), **self._adam.arrays()}

    def load(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._model.load_arrays(arrays)
        self._adam.load(arrays)


def _added(strategy: tf.distribute.Strategy, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each worker's vector → the sum of all, on all of them."""

    def replica(mine: Tensor) -> Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)

    found = strategy.run(replica, args=(tf.constant(values),))
    total: np.ndarray[Any, Any] = strategy.experimental_local_results(found)[0].numpy()
    return total


def person_loss(model: WarmstartModel, config: PrivateConfig) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """One person's loss: what of their next events the lists that they would be shown foretell, with fast
    weights, over the whole catalogue. Rows of items are as they are."""
    rows = model.item_rows()
    inputs, supports, outputs = (
        tf.constant(part.numpy()) for part in (rows.input, rows.support, rows.output)
    )

    def loss(person: Mapping[str, Tensor]) -> Tensor:
        on = person["mask"][..., None]
        said = {
            **person,
            "input_rows": tf.gather(inputs, person["items"]) * on,
            "support_rows": tf.gather(supports, person["items"]) * on,
        }
        queries = model.encode_adapt(said, tf.ones(tf.shape(on)[:1]), SILENCE).queries
        total = tf.constant(0.0)
        for number, task in enumerate(CHOICES):
            logits = exclude(tf.matmul(queries[:, number], outputs, transpose_b=True), person["excluded"])
            weight = config.like_weight if task == LIKE_TASK else 1.0
            total += weight * set_loss(logits, person["targets"], person[f"{task}_weight"])
        return total

    return loss
