"""One training step and the loop around it, the same for both stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from services.training.windows import Batch
from shared.modeling.model import WarmstartModel
from shared.modeling.random import Noise

Tensor = Any


class OnStep(Protocol):
    """Called after a step with its number (from 1), the number of steps and the newest metrics."""

    def __call__(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class TrainState:
    """All that a stage needs to go on from after `step` steps: variables by path, optimisers included."""

    stage: str
    step: int
    arrays: Mapping[str, NDArray[Any]]

    def save(self, path: str | Path) -> None:
        """As .npz, without pickle."""
        meta = {"__stage__": np.array(self.stage), "__step__": np.array(self.step)}
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, **meta, **self.arrays)

    @classmethod
    def load(cls, path: str | Path) -> TrainState:
        with np.load(Path(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if not name.startswith("__")}
            return cls(str(file["__stage__"]), int(file["__step__"]), arrays)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller wants to hear of.

    on_step: progress, every `report_every` steps; on_checkpoint: a state to keep, every
    `checkpoint_every` steps (0 = never); resume: the state to go on from.
    """

    on_step: OnStep | None = None
    report_every: int = 20
    on_checkpoint: Callable[[TrainState], None] | None = None
    checkpoint_every: int = 0
    resume: TrainState | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """AdamW's settings: `slow` is the rate of ψ and φ where they start from an SVD.

    weight_decay: of the item tables alone, so that an item with few events stays near what its
    content says.
    """

    rate: float = 1e-3
    slow: float = 2e-4
    warmup: int = 50
    weight_decay: float = 0.0
    clip_norm: float = 1.0


class Worker:
    """This process's place among the workers of a strategy."""

    def __init__(self, strategy: tf.distribute.Strategy | None) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        resolver = self.strategy.cluster_resolver
        in_cluster = resolver is not None and getattr(resolver, "task_id", None) is not None
        self.number = int(resolver.task_id) if in_cluster else 0
        self.count = int(self.strategy.num_replicas_in_sync)


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear warm-up, then half a cosine down to a twentieth."""

    def __init__(self, rate: float, warmup: int, total: int) -> None:
        self.rate, self.warmup, self.total = rate, max(1, warmup), max(2, total)

    def __call__(self, step: Tensor) -> Tensor:
        now = tf.cast(step, tf.float32)
        done = tf.clip_by_value((now - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        cosine = 0.05 + 0.95 * 0.5 * (1.0 + tf.cos(np.pi * done))
        return self.rate * tf.minimum((now + 1.0) / self.warmup, cosine)


class Trainer:
    """Variables, their optimisers, and a compiled step.

    loss: (batch, noise) → (scalar, metrics). groups: (variables, learning rate), disjoint.
    """

    def __init__(
        self,
        model: WarmstartModel,
        loss: Callable[[Mapping[str, Tensor], Noise], tuple[Tensor, dict[str, Tensor]]],
        groups: Sequence[tuple[list[Any], float]],
        rates: Rates,
        total: int,
        worker: Worker,
    ) -> None:
        self.model, self.worker, self.total = model, worker, total
        self.groups = [(variables, rate) for variables, rate in groups if variables and rate > 0.0]
        with worker.strategy.scope():
            self.optimisers = []
            for number, (variables, rate) in enumerate(self.groups):
                optimiser = keras.optimizers.AdamW(
                    WarmupCosine(rate, rates.warmup, total),
                    beta_2=0.98,
                    weight_decay=rates.weight_decay,
                    name=f"adam_{number}",
                )
                optimiser.exclude_from_weight_decay(
                    var_list=[v for v in variables if not v.path.rsplit("/", 1)[-1].startswith("table_")]
                )
                optimiser.build(variables)
                self.optimisers.append(optimiser)
        trained = [v for variables, _ in self.groups for v in variables]

        def replica(batch: Mapping[str, Tensor], seed: Tensor) -> dict[str, Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([v.value for v in trained])
                value, metrics = loss(batch, Noise(seed))
                value /= worker.count
            gradients = tape.gradient(value, [v.value for v in trained], unconnected_gradients="zero")
            gradients = [tf.convert_to_tensor(g) for g in gradients]
            gradients, norm = tf.clip_by_global_norm(gradients, rates.clip_norm / worker.count)
            at = 0
            for optimiser, (variables, _) in zip(self.optimisers, self.groups, strict=True):
                optimiser.apply(gradients[at : at + len(variables)], variables)
                at += len(variables)
            return {**metrics, "gradient_norm": norm * worker.count}

        @tf.function(autograph=False, reduce_retracing=True)
        def step(batch: Mapping[str, Tensor], seed: Tensor) -> Any:
            return worker.strategy.run(replica, args=(batch, seed))

        self._step = step

    def step(self, batch: Batch, seed: int, number: int) -> Mapping[str, Tensor]:
        """One update; the metrics stay tensors until someone wants them."""
        noise = np.array([seed * 1013 + self.worker.number, number], np.int32)
        result: Mapping[str, Tensor] = self._step({k: tf.constant(v) for k, v in batch.items()}, noise)
        return result

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Variables of model and optimisers by path."""
        found = dict(self.model.state_arrays())
        for optimiser in self.optimisers:
            found |= {f"{optimiser.name}/{v.path}": v.numpy() for v in optimiser.variables}
        return found

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.model.load_arrays(arrays)
        for optimiser in self.optimisers:
            for variable in optimiser.variables:
                variable.assign(arrays[f"{optimiser.name}/{variable.path}"])


def numbers(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Metrics as plain numbers."""
    return {name: float(value) for name, value in metrics.items()}
