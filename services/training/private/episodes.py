"""What people contribute to a step: a few episodes each, padded so that all are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from services.training.data import TrainingData
from services.training.episodes import (
    EpisodeShape,
    cut_episodes,
    episode_inputs,
    events_so_far,
    excluded,
    query_sets,
)
from services.training.private.secret import Secret
from services.training.windows import LIKED_LABEL, Batch
from shared.domain import IntArray
from shared.modeling.config import LIKE_TASK, NEXT_TASK

_WHO, _WHICH = "who takes part", "which events"


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a person gives to a step that they take part in: so many episodes, whose gradients are one
    person's. together: people whose gradients are in memory at once, which changes nothing else."""

    episodes: int = 4
    together: int = 32
    shape: EpisodeShape = field(default_factory=lambda: EpisodeShape(thin_share=0.0, query=10))


def sampled(data: TrainingData, sampling: float, secret: Secret, step: int) -> IntArray:
    """Who takes part in a step: each person of the data by themselves, with probability `sampling`."""
    return np.flatnonzero(secret.uniform(_WHO, step, data.num_users) < sampling).astype(np.int32)


def contributions(
    data: TrainingData,
    people: IntArray,
    contribution: Contribution,
    secret: Secret,
    step: int,
    *,
    worker: int = 0,
    num_workers: int = 1,
) -> Iterator[Batch]:
    """Batches of `together` people each, [P, E, …]; `present` [P] is 0 of those that fill up the last one.

    Of each person nothing but their own events is in it. Who has too few gives nothing. Workers take turns:
    together they have the batches that one alone would have.
    """
    able = people[data.lengths[people] > 1]
    size = contribution.together
    starts = range(0, len(able), size)
    for number in range(worker, len(starts), num_workers):
        rng = secret.generator(f"{_WHICH} {number}", step)
        some = able[starts[number] : starts[number] + size]
        filled = np.concatenate([some, np.repeat(some[:1], size - len(some))])
        batch = _of_people(data, filled, contribution, rng)
        batch["present"] = (np.arange(size) < len(some)).astype(np.float32)
        yield batch


def _of_people(
    data: TrainingData, people: IntArray, contribution: Contribution, rng: np.random.Generator
) -> Batch:
    shape, each = contribution.shape, contribution.episodes
    cuts = cut_episodes(data, np.repeat(people, each), shape, rng)
    batch = episode_inputs(data, cuts, shape.max_shots, action_share=shape.action_share, rng=rng)
    targets, there, labels = query_sets(data, cuts, shape.query)
    out = excluded(events_so_far(data, cuts), data.num_items)
    np.put_along_axis(out, targets, 0, axis=1)  # a target that they have had before stays one
    batch |= {
        "targets": targets,
        f"{NEXT_TASK}_weight": there,
        f"{LIKE_TASK}_weight": (there * (labels >= LIKED_LABEL)).astype(np.float32),
        "excluded": out,
    }
    return {name: column.reshape(len(people), each, *column.shape[1:]) for name, column in batch.items()}
