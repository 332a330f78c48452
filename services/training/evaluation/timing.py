"""How long adapting one person takes: as served, and by fine-tuning the whole body; side by side, one thread.

Measured in a process of its own: TensorFlow's threads cannot be changed where it has started.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from services.training.data import TrainingData
from shared.domain import ModelRef, UserContext
from shared.errors import WarmstartError

# Enough for a median; each is fine-tuned once more.
PEOPLE_TIMED = 50
# Times that each person is served, with an adapter and without one in turn: adapting is a small part of a
# call, and what follows seconds of something else finds cold caches.
_ROUNDS = 15


# From a person to what is timed.
Call = Callable[[UserContext], Callable[[], Any]]


class TimingFailed(WarmstartError):
    """The process that measures ended without an answer."""

    reason = "TIMING_FAILED"


@dataclass(frozen=True, slots=True, eq=False)
class TimedModels:
    """What is compared, as it lies on disk.

    on, off: artifacts in `registry`, with an adapter and without one; body: directory of a kept body; data:
    the catalogue that it was trained on.
    """

    registry: Path
    on: ModelRef
    off: ModelRef
    body: Path
    data: TrainingData


@dataclass(frozen=True, slots=True)
class Timed:
    """Medians over people, in milliseconds, of one person's whole call (served: of the median of rounds).

    encode_ms: `encode_adapt` of the artifact without an adapter; encode_adapt_ms: of the one with it, and the
    look-up of what follows; adapt_ms: of what the second takes more than the first; finetune_ms: fine-tuning
    the body, encoding with it and scoring the catalogue.
    """

    people: int
    encode_ms: float
    encode_adapt_ms: float
    adapt_ms: float
    finetune_ms: float


def time_adaptation(models: TimedModels, contexts: Mapping[int, Sequence[UserContext]]) -> dict[int, Timed]:
    """By number of shots. contexts: people's, by number of shots; the first `PEOPLE_TIMED` are timed.

    Raises TimingFailed where the process dies.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    few = {shots: tuple(people[:PEOPLE_TIMED]) for shots, people in contexts.items()}
    process = spawn.Process(target=_measure, args=(there, models, few), daemon=True)
    process.start()
    there.close()
    try:
        found: dict[int, Timed] = here.recv()
    except EOFError:
        process.join()
        raise TimingFailed(f"the process that times adaptation ended with {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()
    return found


def _measure(answer: Connection, models: TimedModels, contexts: Mapping[int, Sequence[UserContext]]) -> None:
    import keras  # noqa: F401 - before TensorFlow, which serving imports without it

    from services.training.evaluation.served import ServedArtifact
    from services.training.evaluation.whole_body import WholeBody
    from shared.artifacts import Registry

    registry = Registry(models.registry)
    on, off = (ServedArtifact.load(registry.open(ref)) for ref in (models.on, models.off))
    whole = WholeBody.load(models.body, models.data.item_ids, models.data.content)
    in_turn = (lambda one: _served(off, one), lambda one: _served(on, one))
    answer.send(
        {
            shots: _timed(in_turn, lambda one: _fine_tuned(whole, one), people)
            for shots, people in contexts.items()
            if people
        }
    )


def _timed(served: Sequence[Call], tuned: Call, people: Sequence[UserContext]) -> Timed:
    """served: without an adapter and with one. Inputs are made before the clock starts."""
    for call in (*served, tuned):
        call(people[0])()  # compiles
    rows = []
    for person in people:
        ready = [call(person) for call in served]
        rounds = [[_milliseconds(run) for run in ready] for _ in range(_ROUNDS)]
        rows.append([*np.median(rounds, axis=0), _milliseconds(tuned(person))])
    ms = np.array(rows)
    encode, encode_adapt, finetune = np.median(ms, axis=0).tolist()
    return Timed(len(people), encode, encode_adapt, float(np.median(ms[:, 1] - ms[:, 0])), finetune)


def _milliseconds(run: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    run()
    return 1000.0 * (time.perf_counter() - began_s)


def _served(served: Any, person: UserContext) -> Callable[[], Any]:
    from shared.context.batch import build_inputs
    from shared.context.trail import trail_of

    inputs = build_inputs([person], served.items.view, served.artifact.manifest.buckets)

    def run() -> None:
        adapted = served.model.encode_adapt(inputs, np.ones(1, np.float32))
        trail = trail_of(inputs.item_ids[0], adapted.trail[0])
        if trail is not None:
            served.following(trail)

    return run


def _fine_tuned(whole: Any, person: UserContext) -> Callable[[], Any]:
    people, _ = whole.inputs([person])
    return lambda: whole.own(people, whole.start, whole.kept.pace)
