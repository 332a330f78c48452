"""How long adapting a person takes: as served, and by fine-tuning the whole body; side by side, one thread.

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
from shared.inference.model import ADAPT_BATCHES

# Enough for a median, and three full batches; each is fine-tuned once more, alone and in a batch.
PEOPLE_TIMED = 3 * ADAPT_BATCHES[-1]
# Times that each call is served, with an adapter and without one in turn: adapting is a small part of a
# call, and what follows seconds of something else finds cold caches.
_ROUNDS = 15


# From the people of a call to what is timed.
Call = Callable[[Sequence[UserContext]], Callable[[], Any]]


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
    """Medians over calls, in milliseconds a person, of whole calls (served: of the median of rounds).

    people: in all; together: so many of them a call; encode_ms: `encode_adapt` of the artifact without an
    adapter; encode_adapt_ms: of the one with it, and the look-up of what follows; adapt_ms: of what the
    second takes more than the first; finetune_ms: fine-tuning the body, encoding with it and scoring the
    catalogue.
    """

    people: int
    together: int
    encode_ms: float
    encode_adapt_ms: float
    adapt_ms: float
    finetune_ms: float


def time_adaptation(
    models: TimedModels, contexts: Mapping[int, Sequence[UserContext]]
) -> dict[int, tuple[Timed, ...]]:
    """By number of shots: one person a call, as an idle server gets them, and as many as a busy one puts
    together (all, where there are fewer).

    contexts: people's, by number of shots; the first `PEOPLE_TIMED` are timed.

    Raises TimingFailed where the process dies.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    few = {shots: tuple(people[:PEOPLE_TIMED]) for shots, people in contexts.items()}
    process = spawn.Process(target=_measure, args=(there, models, few), daemon=True)
    process.start()
    there.close()
    try:
        found: dict[int, tuple[Timed, ...]] = here.recv()
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
    in_turn = (lambda some: _served(off, some), lambda some: _served(on, some))
    answer.send(
        {
            shots: tuple(
                _timed(in_turn, lambda some: _fine_tuned(whole, some), people, together)
                for together in sorted({1, min(ADAPT_BATCHES[-1], len(people))})
            )
            for shots, people in contexts.items()
            if people
        }
    )


def _timed(served: Sequence[Call], tuned: Call, people: Sequence[UserContext], together: int) -> Timed:
    """served: without an adapter and with one; together: people a call, those who fill none are left out.
    Inputs are made before the clock starts."""
    calls = [people[at : at + together] for at in range(0, len(people) - together + 1, together)]
    for call in (*served, tuned):
        call(calls[0])()  # compiles
    rows = []
    for some in calls:
        ready = [call(some) for call in served]
        rounds = [[_milliseconds(run) for run in ready] for _ in range(_ROUNDS)]
        rows.append([*np.median(rounds, axis=0), _milliseconds(tuned(some))])
    ms = np.array(rows) / together
    encode, encode_adapt, finetune = np.median(ms, axis=0).tolist()
    adapt = float(np.median(ms[:, 1] - ms[:, 0]))
    return Timed(len(calls) * together, together, encode, encode_adapt, adapt, finetune)


def _milliseconds(run: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    run()
    return 1000.0 * (time.perf_counter() - began_s)


def _served(served: Any, people: Sequence[UserContext]) -> Callable[[], Any]:
    from shared.context.batch import build_inputs
    from shared.context.trail import trail_of

    inputs = build_inputs(people, served.items.view, served.artifact.manifest.buckets)

    def run() -> None:
        adapted = served.model.encode_adapt(inputs, np.ones(len(people), np.float32))
        for item_ids, weights in zip(inputs.item_ids, adapted.trail, strict=True):
            trail = trail_of(item_ids, weights)
            if trail is not None:
                served.following(trail)

    return run


def _fine_tuned(whole: Any, some: Sequence[UserContext]) -> Callable[[], Any]:
    people, _ = whole.inputs(some)
    return lambda: whole.own(people, whole.start, whole.kept.pace)
