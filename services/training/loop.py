"""One training step and the loop around it, the same for all stages."""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol, TypeVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from services.training.jobs import StopRequested
from services.training.windows import Batch
from shared.errors import WarmstartError
from shared.modeling.model import WarmstartModel
from shared.modeling.random import Noise

B = TypeVar("B")
B_in = TypeVar("B_in", contravariant=True)

Tensor = Any


class DamagedState(WarmstartError):
    """What a run kept of itself to go on from cannot be read."""

    code = "FAILED_PRECONDITION"
    reason = "DAMAGED_STATE"


class OnStep(Protocol):
    """Called after a step with its number (from 1), the number of steps and the newest metrics."""

    def __call__(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class TrainState:
    """All that a stage needs to go on from after `step` steps: variables by path, optimisers included.

    figures: what is told of the stage so far: metrics, and what it cost before an interruption.
    """

    stage: str
    step: int
    arrays: Mapping[str, NDArray[Any]]
    figures: Mapping[str, float] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """As .npz, without pickle."""
        meta = {
            "__stage__": np.array(self.stage),
            "__step__": np.array(self.step),
            "__figures__": np.array(json.dumps(dict(self.figures))),
        }
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, **meta, **self.arrays)

    @classmethod
    def load(cls, path: str | Path) -> TrainState:
        """Raises DamagedState where the file is not what `save` wrote."""
        try:
            return cls._load(path)
        except _NO_STATE as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise DamagedState(
                f"{path} must be a state that a training saved, got a damaged file ({why}): delete it and "
                "resume the run, which then does that stage from its beginning"
            ) from error

    @classmethod
    def _load(cls, path: str | Path) -> TrainState:
        if not zipfile.is_zipfile(path):  # of such a file numpy says how to load it unsafely
            raise zipfile.BadZipFile("it is not a zip file")
        # Opened here: numpy leaves a file open that turns out to be none of its own.
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if not name.startswith("__")}
            # earlier versions noted none
            figures = json.loads(str(file["__figures__"])) if "__figures__" in file.files else {}
            return cls(str(file["__stage__"]), int(file["__step__"]), arrays, figures)


# What zipfile, zlib and numpy, which parses headers as Python, raise of a file that is none of theirs.
_NO_STATE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    TokenError,
    EOFError,
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,  # encrypted; of methods that zipfile does not know NotImplementedError, and RecursionError
)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller wants to hear of.

    on_step: progress, every `report_every` steps; on_checkpoint: a state to keep, every
    `checkpoint_every` steps (0 = never) and where the run is to end; resume: the state to go on from;
    stopping: whether the run is to end, asked every `report_every` steps.
    """

    on_step: OnStep | None = None
    report_every: int = 20
    on_checkpoint: Callable[[TrainState], None] | None = None
    checkpoint_every: int = 0
    resume: TrainState | None = None
    stopping: Callable[[], bool] | None = None

    def after_step(self, done: int, state: Callable[[], TrainState] | None = None) -> None:
        """Keeps the state where it is time to, or where the run is to end: then raises StopRequested.

        state: None where a stage has no steps to go on from.
        """
        ends = self.stopping is not None and done % self.report_every == 0 and self.stopping()
        due = self.checkpoint_every > 0 and done % self.checkpoint_every == 0
        if state and self.on_checkpoint and (due or ends):
            self.on_checkpoint(state())
        if ends:
            raise StopRequested


@dataclass(frozen=True, slots=True)
class Rates:
    """AdamW's settings.

    weight_decay: of the item tables alone, so that an item with few events stays near what its
    content says.
    """

    rate: float = 1e-3
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


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """A loss and the variables that follow it.

    loss: (batch, noise) → (scalar, metrics); groups: (variables, learning rate), disjoint between all
    objectives of a trainer; prefix: of this objective's fields in the batch and of its metrics.
    """

    loss: Callable[[Mapping[str, Tensor], Noise], tuple[Tensor, dict[str, Tensor]]]
    groups: Sequence[tuple[list[Any], float]]
    prefix: str = ""

    def part(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its fields of a batch, without the prefix."""
        if not self.prefix:
            return dict(batch)
        return {n.removeprefix(self.prefix): v for n, v in batch.items() if n.startswith(self.prefix)}


class Trainer:
    """Variables, their optimisers, and a compiled step that follows all objectives at once."""

    def __init__(
        self, model: WarmstartModel, objectives: Sequence[Objective], rates: Rates, total: int, worker: Worker
    ) -> None:
        self.model, self.worker = model, worker
        self.optimisers: list[Any] = []
        updates = [self._update(objective, rates, total) for objective in objectives]

        def replica(batch: Mapping[str, Tensor], seed: Tensor) -> dict[str, Tensor]:
            found: dict[str, Tensor] = {}
            for update in updates:
                found |= update(batch, seed)
            return found

        def step(batch: Mapping[str, Tensor], seed: Tensor) -> Any:
            return worker.strategy.run(replica, args=(batch, seed))

        self._step = step
        self._compiled: dict[tuple[int, ...], Any] = {}

    def _update(self, objective: Objective, rates: Rates, total: int) -> Callable[..., dict[str, Tensor]]:
        """Makes the objective's optimisers; returns one step of it, in replica context."""
        count = self.worker.count
        groups = [(variables, rate) for variables, rate in objective.groups if variables and rate > 0.0]
        optimisers = [self._optimiser(variables, rate, rates, total) for variables, rate in groups]
        trained = [v for variables, _ in groups for v in variables]

        def update(batch: Mapping[str, Tensor], seed: Tensor) -> dict[str, Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([v.value for v in trained])
                value, metrics = objective.loss(objective.part(batch), Noise(seed))
                value /= count
            gradients = tape.gradient(value, [v.value for v in trained], unconnected_gradients="zero")
            gradients = [tf.convert_to_tensor(g) for g in gradients]
            gradients, norm = tf.clip_by_global_norm(gradients, rates.clip_norm / count)
            at = 0
            for optimiser, (variables, _) in zip(optimisers, groups, strict=True):
                optimiser.apply(gradients[at : at + len(variables)], variables)
                at += len(variables)
            metrics["gradient_norm"] = norm * count
            return {objective.prefix + name: metric for name, metric in metrics.items()}

        return update

    def _optimiser(self, variables: list[Any], rate: float, rates: Rates, total: int) -> Any:
        """AdamW of one group; only tables decay."""
        with self.worker.strategy.scope():
            optimiser = keras.optimizers.AdamW(
                WarmupCosine(rate, rates.warmup, total),
                beta_2=0.98,
                weight_decay=rates.weight_decay,
                name=f"adam_{len(self.optimisers)}",
            )
            others = [v for v in variables if not v.path.rsplit("/", 1)[-1].startswith("table_")]
            optimiser.exclude_from_weight_decay(var_list=others)
            optimiser.build(variables)
        self.optimisers.append(optimiser)
        return optimiser

    def step(self, batch: Batch, seed: int, number: int) -> Mapping[str, Tensor]:
        """One update; the metrics stay tensors until someone wants them."""
        noise = np.array([seed * 1013 + self.worker.number, number], np.int32)
        result: Mapping[str, Tensor] = self._compiled_for(batch)(
            {k: tf.constant(v) for k, v in batch.items()}, noise
        )
        return result

    def _compiled_for(self, batch: Batch) -> Any:
        """One graph for each size of the windows, with that size known to it; what else varies (a sample of
        the catalogue that is too small for a batch's items) does not make more."""
        size = batch["mask"].shape
        if size not in self._compiled:
            self._compiled[size] = tf.function(self._step, autograph=False, reduce_retracing=True)
        return self._compiled[size]

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


# Where a checkpoint keeps the average of the weights, and the best so far, beside the weights themselves.
AVERAGE, _BEST = "average", "best"
# Steps from one look at the weights to be averaged to the next.
FOLLOW_EVERY = 5


def marked(arrays: Mapping[str, NDArray[Any]], mark: str) -> dict[str, NDArray[Any]]:
    """As a checkpoint keeps other weights beside the model's own."""
    return {f"{mark}/{path}": array for path, array in arrays.items()}


def unmarked(arrays: Mapping[str, NDArray[Any]], mark: str) -> dict[str, NDArray[Any]]:
    """The inverse, from all arrays of a checkpoint."""
    return {path.removeprefix(f"{mark}/"): a for path, a in arrays.items() if path.startswith(f"{mark}/")}


class Average:
    """The exponential moving average of a model's weights, which generalises better than the last ones
    (Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging").

    momentum: share that stays at each `follow`, less in the first ones, which know little; 0 is the
    weights as they are.
    """

    def __init__(self, model: WarmstartModel, momentum: float) -> None:
        self._model, self._momentum = model, momentum
        self.arrays = model.state_arrays()

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from these."""
        self.arrays = {path: arrays[path] for path in self.arrays}

    def follow(self, times: float) -> None:
        """times: how often it has been followed before."""
        momentum = min(self._momentum, (1.0 + times) / (10.0 + times))
        now = self._model.state_arrays()
        # New arrays each time: a checkpoint may still hold the last ones.
        self.arrays = {path: old + (1.0 - momentum) * (now[path] - old) for path, old in self.arrays.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model is the average meanwhile."""
        now = self._model.state_arrays()
        self._model.load_arrays(self.arrays)
        yield
        self._model.load_arrays(now)


class Best:
    """The weights that validation people like best so far, at first those of the start; of equals the latest,
    so that where nobody can be asked (NDCG is 0 throughout) it is the last ones.

    ndcg: validation people's NDCG@10; arrays: the model's variables by path.
    """

    def __init__(self, model: WarmstartModel) -> None:
        self.ndcg, self.arrays = -1.0, model.state_arrays()

    def offer(self, ndcg: float, arrays: Callable[[], dict[str, NDArray[Any]]]) -> bool:
        """Whether these are as good at least; then they are kept."""
        kept = ndcg >= self.ndcg
        if kept:
            self.ndcg, self.arrays = ndcg, arrays()
        return kept

    def marked(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        return marked(self.arrays, _BEST) | {_BEST: np.array(self.ndcg)}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a checkpoint's."""
        self.ndcg, self.arrays = float(arrays[_BEST]), unmarked(arrays, _BEST)


def numbers(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Metrics as plain numbers."""
    return {name: float(value) for name, value in metrics.items()}


class Steps(Protocol[B_in]):
    """What makes a step of what was prepared for it."""

    def step(self, batch: B_in, seed: int, number: int) -> Mapping[str, Tensor]:
        """Metrics, as tensors or numbers."""
        ...


def run_stage(
    trainer: Steps[B],
    make: Callable[[int], B],
    steps: int,
    *,
    seed: int,
    hooks: Hooks,
    state: Callable[[int], TrainState],
    follow: Callable[[int], None] = lambda done: None,
    look: Callable[[], float] = lambda: 0.0,
    look_every: int = 0,
) -> dict[str, float]:
    """The steps of a stage that are left: step, follow, look, report, keep.

    make: the batch of a step; state: all that is needed to go on after so many steps; follow: called after
    each step with how many are done; look: validation people's NDCG@10, asked for every `look_every` steps
    and after the last (0 = never).

    Returns the last training metrics, nothing where no step was left.
    """
    metrics: Mapping[str, Tensor] = {}
    first = hooks.resume.step if hooks.resume else 0
    for step, batch in ahead(make, range(first, steps)):
        metrics = trainer.step(batch, seed, step)
        done = step + 1
        last = done == steps
        follow(done)
        report: dict[str, float] = {}
        if look_every and (done % look_every == 0 or last):
            report = {**numbers(metrics), "validation_ndcg": look()}
        elif done % hooks.report_every == 0 or last:
            report = numbers(metrics)
        if hooks.on_step and report:
            hooks.on_step(done, steps, report)
        hooks.after_step(done, partial(state, done))
    return numbers(metrics)


def ahead(make: Callable[[int], B], steps: range) -> Iterator[tuple[int, B]]:
    """(step, make(step)) in order, each made in a thread while the step before it is in work.

    TensorFlow lets go of Python while it computes, so the second core prepares.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        coming = pool.submit(make, steps[0]) if steps else None
        for step in steps:
            assert coming is not None  # noqa: S101 - there is a step
            made = coming.result()
            coming = pool.submit(make, step + 1) if step + 1 in steps else None
            yield step, made
