"""Windows of people's histories as left-padded batches: what pre-training and episodes are cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.training.data import Int64Array, TrainingData
from shared.context.labels import signed_labels
from shared.domain import Action, FloatArray, IntArray

Batch = dict[str, NDArray[Any]]
# Whole-catalogue softmax up to so many items, a sample above.
FULL_SOFTMAX_ITEMS = 20_000
LIKED_LABEL = 0.8
_MAX_AGE_S = 3.0e9
_POSITIVE = np.array([Action.LIKE, Action.PURCHASE, Action.CLICK, Action.VIEW, Action.DWELL], np.int32)
_POSITIVE_SHARES = np.array([0.5, 0.15, 0.15, 0.1, 0.1])
_LIKED_VARIED, _DISLIKED_VARIED = 0.7, 0.2
_NEGATIVE = np.array([Action.DISLIKE, Action.SKIP], np.int32)
_LIKED_RATING, _DISLIKED_RATING = 4.0, 2.0
_DWELL_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """B runs of consecutive events: person `users[b]`'s events `starts[b]` … `starts[b] + counts[b] − 1`.

    users [B] int32; starts, counts [B] int64, starts counted within the person's own history.
    """

    users: IntArray
    starts: Int64Array
    counts: Int64Array

    def __len__(self) -> int:
        return len(self.users)

    def take(self, places: NDArray[Any]) -> Cuts:
        """Some of them. places: [b] int."""
        return Cuts(self.users[places], self.starts[places], self.counts[places])

    def part(self, worker: int, num_workers: int) -> Cuts:
        """One worker's equal share; the batch must divide."""
        size = len(self) // num_workers
        return self.take(np.arange(worker * size, (worker + 1) * size))


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The items of one step's softmax.

    items: [M] int32 ascending, or None for the whole catalogue; log_q: [M] float32, log of the
    probability with which a column was sampled relative to being there for certain (0).
    """

    items: IntArray | None
    log_q: FloatArray

    def columns(self, items: IntArray) -> IntArray:
        """Catalogue numbers → columns of the pool; they must be in it."""
        return items if self.items is None else np.searchsorted(self.items, items).astype(np.int32)


def rated(actions: IntArray) -> NDArray[np.bool_]:
    """Which events are ratings, in stars."""
    ratings: NDArray[np.bool_] = actions == int(Action.RATING)
    return ratings


def generator(seed: int, stage: int, step: int) -> np.random.Generator:
    """The random numbers of one step: a function of its number, so that a resumed run repeats exactly."""
    return np.random.default_rng([seed, stage, step])


def make_pool(data: TrainingData, needed: IntArray, size: int, rng: np.random.Generator) -> Pool:
    """The whole catalogue, or `size` items: the needed ones, filled up with others drawn uniformly.

    needed: any shape, items that must be in it; where there are more of them than `size`, all are.
    One size for every step, so that a step is compiled once.
    """
    total = data.num_items
    if total <= FULL_SOFTMAX_ITEMS:
        return Pool(None, np.zeros(total, np.float32))
    wanted = np.unique(needed)
    rest = np.setdiff1d(np.arange(total), wanted, assume_unique=True)
    drawn = rng.choice(rest, size=min(max(size - len(wanted), 0), len(rest)), replace=False)
    items = np.union1d(wanted, drawn).astype(np.int32)
    log_q = np.full(len(items), np.log(max(len(drawn), 1) / max(len(rest), 1)), np.float32)
    log_q[np.searchsorted(items, wanted)] = 0.0
    return Pool(items, log_q)


def places(data: TrainingData, cuts: Cuts, length: int) -> tuple[Int64Array, FloatArray]:
    """Where the events of each cut stand in the data's columns, padded on the left.

    Returns index [B, length] int64 (0 in padding) and mask [B, length] float32. The latest `length`
    events of longer cuts are kept.
    """
    kept = np.minimum(cuts.counts, length)
    first = data.offsets[cuts.users] + cuts.starts + cuts.counts - kept
    column = np.arange(length)[None, :] - (length - kept)[:, None]
    mask = column >= 0
    return np.where(mask, first[:, None] + column, 0), mask.astype(np.float32)


def event_inputs(data: TrainingData, index: Int64Array, mask: FloatArray) -> Batch:
    """Columns of the events at `index`: items, actions, values, ages_s (to the newest event), mask."""
    on = mask.astype(bool)
    times = data.time_ms[index]
    ages = np.clip((times[:, -1:] - times) / 1000.0, 0.0, _MAX_AGE_S)
    told = data.told(index)
    actions = np.where(on, told[0], 0).astype(np.int32)
    values = np.where(on, told[1], 0.0).astype(np.float32)
    return {
        "items": np.where(on, data.items[index], 0).astype(np.int32),
        "actions": actions,
        "values": values,
        "ages_s": np.where(on, ages, 0.0).astype(np.float32),
        "mask": mask,
    }


def vary_actions(batch: Mapping[str, NDArray[Any]], share: float, rng: np.random.Generator) -> Batch:
    """Says some ratings as other actions, so that every action's embedding is trained on ratings-only data.

    Of a `share` of windows, each rating ≥ 4 becomes a like, purchase, click, view or dwell with
    probability 0.7, each rating ≤ 2 a dislike or skip with probability 0.2; other events stay. Few low
    ratings, since they foretell more of a kind that was chosen, and a dislike shall not (see `reactions`).
    Adds `labels`.
    """
    actions, values = batch["actions"].copy(), batch["values"].copy()
    rating = (rng.random((len(actions), 1)) < share) & (actions == Action.RATING)
    drawn = rng.random(actions.shape)
    liked = rating & (values >= _LIKED_RATING) & (drawn < _LIKED_VARIED)
    disliked = rating & (values <= _DISLIKED_RATING) & (drawn < _DISLIKED_VARIED)
    actions[liked] = rng.choice(_POSITIVE, size=int(liked.sum()), p=_POSITIVE_SHARES)
    actions[disliked] = rng.choice(_NEGATIVE, size=int(disliked.sum()))
    values[liked | disliked] = 0.0
    dwell = liked & (actions == Action.DWELL)
    values[dwell] = rng.uniform(0.5, 3.0, size=int(dwell.sum())) * _DWELL_S
    return {**batch, "actions": actions, "values": values, "labels": signed_labels(actions, values)}


def draw_cuts(
    data: TrainingData,
    users: IntArray,
    counts: Int64Array,
    *,
    after: int,
    first_share: float,
    last_share: float = 0.0,
    rng: np.random.Generator,
) -> Cuts:
    """One random cut for each count: a person with enough events, and where it starts.

    users: who may be drawn, equally likely; after: events that must follow the cut; first_share:
    share of cuts that start with the person's first event (strangers are what we train for); last_share:
    of those that end with the last one before them (people with long histories are served from there).
    Cuts are shortened where a person has fewer events.
    """
    lengths = data.lengths[users]
    able = users[lengths > after]
    drawn = able[rng.integers(len(able), size=len(counts))]
    return cut_people(
        data, drawn, counts, after=after, first_share=first_share, last_share=last_share, rng=rng
    )


def cut_people(
    data: TrainingData,
    people: IntArray,
    counts: Int64Array,
    *,
    after: int,
    first_share: float,
    last_share: float = 0.0,
    rng: np.random.Generator,
) -> Cuts:
    """One random cut of each of these people, who have more than `after` events; else as `draw_cuts`."""
    size = len(people)
    room = data.lengths[people] - after
    counts = np.minimum(counts, room)
    starts = np.floor(rng.random(size) * (room - counts + 1)).astype(np.int64)
    drawn_share = rng.random(size)
    starts[drawn_share < first_share] = 0
    at_end = drawn_share >= 1.0 - last_share
    starts[at_end] = (room - counts)[at_end]
    return Cuts(people.astype(np.int32), starts, counts.astype(np.int64))
