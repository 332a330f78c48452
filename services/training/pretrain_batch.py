"""Pre-training's input: a step's windows, from people in memory or streamed from disk, as a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.training.asof import content_profiles, request_vectors, social_profiles
from services.training.data import Int64Array, TrainingData
from services.training.loop import Rates, Worker
from services.training.stream import Reader, StoredPeople, steps
from services.training.stream_plan import StreamPlan, StreamShape
from services.training.windows import (
    LIKED_LABEL,
    Batch,
    Cuts,
    cut_people,
    draw_cuts,
    event_inputs,
    generator,
    make_pool,
    places,
    rated,
    vary_actions,
)
from shared.context.batch import bucket_for
from shared.domain import FloatArray, IntArray
from shared.holdout import Role
from shared.modeling.config import LIKE_TASK, RATING_TASK, TASKS

_STAGE = 1
# Steps whose windows are drawn at once where they are dealt out by length.
_STEPS_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """steps of batch_windows windows of at most `window` events.

    lengths: what batches of shorter windows are padded to, ascending and below `window`; windows of like
    length make a batch then. horizon: the target of a place is drawn among the next so many events;
    positions: how many places a task's loss takes of a batch of full length, over the whole batch, and in
    proportion of a shorter one; id_dropout: share of items whose id is hidden at a step; first_share: share
    of windows that begin with a person's first event; last_share: of those that end with the last one before
    the target; past_known: whether START has the profile of what came before a window; action_share: share
    of windows whose ratings are said as other actions; pool_items: columns of the softmax where the catalogue
    is too large for a full one; like_weight, rating_weight: of these tasks' losses, where that of `next` has
    1; distil_weight: of the loss by which content rows learn what ids give; average: momentum, by five steps,
    of the moving average of the weights, which is what is kept (0 = the last weights).
    """

    steps: int = 800
    batch_windows: int = 64
    window: int = 32
    lengths: tuple[int, ...] = ()
    horizon: int = 5
    positions: tuple[int, int, int] = (640, 256, 256)
    id_dropout: float = 0.1
    first_share: float = 0.3
    last_share: float = 0.0
    past_known: bool = True
    action_share: float = 0.5
    pool_items: int = 8000
    like_weight: float = 0.5
    rating_weight: float = 0.1
    distil_weight: float = 0.1
    average: float = 0.0
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True, slots=True, eq=False)
class StepWindows:
    """What one worker's batch of a step is made of. data: in which the cuts are; rng: for the rest."""

    data: TrainingData
    cuts: Cuts
    rng: np.random.Generator


def windows_in_memory(
    data: TrainingData, config: PretrainConfig, seed: int, worker: Worker, first: int
) -> Iterator[StepWindows]:
    """This worker's share of the windows of steps `first` … `config.steps − 1`; people are drawn anew at each
    step."""
    users = data.users_of(Role.TRAIN)
    for step in range(first, config.steps):
        cuts, rng = draw_windows(data, users, config, seed, step)
        yield StepWindows(data, cuts.part(worker.number, worker.count), rng)


def windows_from_disk(
    stored: StoredPeople,
    config: PretrainConfig,
    seed: int,
    worker: Worker,
    first: int,
    read: Reader | None = None,
) -> Iterator[StepWindows]:
    """The same from people who are not in memory: each comes once an epoch, with one window.

    read: see `stream.steps`.
    """
    together = _STEPS_TOGETHER if config.lengths else 1
    shape = StreamShape(together * config.batch_windows)
    plan = StreamPlan(stored.sizes, shape, seed, worker.number, worker.count)
    share = config.batch_windows // worker.count
    blocks = -(-config.steps // together)
    for block, people in steps(stored, plan, first // together, blocks, read):
        rng = np.random.default_rng([seed, _STAGE, block * together, worker.number])
        cuts = cut_people(
            people.data,
            people.users,
            np.full(together * share, config.window, np.int64),
            after=1,
            first_share=config.first_share,
            last_share=config.last_share,
            rng=rng,
        )
        by_length = _by_length(cuts, together)
        # The same for all workers: they wait for each other, and long windows take longer.
        order = generator(seed, _STAGE, block * together).permutation(together)
        for step in range(max(first, block * together), min(config.steps, (block + 1) * together)):
            mine = by_length[order[step % together]]
            own = np.random.default_rng([seed, _STAGE, step, worker.number])
            yield StepWindows(people.data, cuts.take(mine), own)


def draw_windows(
    data: TrainingData, users: IntArray, config: PretrainConfig, seed: int, step: int
) -> tuple[Cuts, np.random.Generator]:
    """One step's windows, a function of (seed, step), and the random numbers for the rest of its batch.

    Where batches may be shorter, the windows of several steps are drawn at once and dealt out by length
    ("bucketing by length"), so that little of a batch is padding; which of them a step gets is drawn too.
    """
    together = _STEPS_TOGETHER if config.lengths else 1
    rng = generator(seed, _STAGE, step - step % together)
    counts = np.full(together * config.batch_windows, config.window, np.int64)
    cuts = draw_cuts(
        data,
        users,
        counts,
        after=1,
        first_share=config.first_share,
        last_share=config.last_share,
        rng=rng,
    )
    if together == 1:
        return cuts, rng
    mine = _by_length(cuts, together)[rng.permutation(together)[step % together]]
    # Workers share a batch in order: each gets long ones and short ones.
    return cuts.take(rng.permutation(mine)), generator(seed, _STAGE, step)


def _by_length(cuts: Cuts, batches: int) -> Int64Array:
    """Places of the cuts, dealt into batches of like length, the shortest first. [batches, B / batches]."""
    dealt: Int64Array = np.argsort(cuts.counts, kind="stable").reshape(batches, -1)
    return dealt


def window_batch(
    data: TrainingData, cuts: Cuts, config: PretrainConfig, rng: np.random.Generator, num_workers: int
) -> Batch:
    """Inputs and targets of windows.

    The START token knows what was known at the window's start. Place 0 (START) and each event have
    one target: one of the `horizon` events after them. Targets are given as flat places of
    [B, L + 1] and columns of the pool, by task.
    """
    length = bucket_for(int(cuts.counts.max(initial=1)), (*config.lengths, config.window))
    index, mask = places(data, cuts, length)
    batch = vary_actions(event_inputs(data, index, mask), config.action_share, rng)
    starts = data.time_ms[data.offsets[cuts.users] + cuts.starts]
    batch["attributes"] = data.attributes[cuts.users]
    known = cuts.starts if config.past_known else np.zeros_like(cuts.starts)
    batch["content_profile"] = content_profiles(data, cuts.users, known)
    batch["social_profile"] = social_profiles(data, cuts.users, starts)
    batch["request"] = request_vectors(starts)
    at, target = _targets(data, cuts, mask, config.horizon, rng)
    order = rng.permutation(len(at))
    at, target = at[order], target[order]
    pool = make_pool(
        data, np.concatenate([batch["items"].ravel(), data.items[target]]), config.pool_items, rng
    )
    batch["items"] = pool.columns(batch["items"])
    batch["log_q"] = pool.log_q
    if pool.items is not None:
        batch["pool"] = pool.items
    liked = data.labels[target] >= LIKED_LABEL
    usable_by_task = (np.ones(len(at), bool), liked, rated(data.actions[target]))
    for task, usable, positions in zip(TASKS, usable_by_task, config.positions, strict=True):
        if not {LIKE_TASK: config.like_weight, RATING_TASK: config.rating_weight}.get(task, 1.0):
            continue
        size = positions * length // config.window // num_workers
        chosen = np.flatnonzero(usable)[:size]
        batch |= _padded(task, at[chosen], pool.columns(data.items[target[chosen]]), size)
        if task == RATING_TASK:
            batch["stars"] = np.pad(data.values[target[chosen]], (0, size - len(chosen)))
    return batch


def _targets(
    data: TrainingData, cuts: Cuts, mask: FloatArray, horizon: int, rng: np.random.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Flat places of [B, L + 1] that have a target, and the target's place among all events."""
    places_on = np.concatenate([np.ones((len(mask), 1)), mask], axis=1) > 0
    rows, columns = np.nonzero(places_on)
    length = mask.shape[1]
    # Events of the window up to and including this place.
    so_far = np.where(columns == 0, 0, columns - (length - cuts.counts[rows]))
    so_far = np.where(columns == 0, 0, so_far)
    following = data.lengths[cuts.users[rows]] - cuts.starts[rows] - so_far
    ahead = np.floor(rng.random(len(rows)) * np.minimum(following, horizon)).astype(np.int64)
    some = following > 0
    target = data.offsets[cuts.users[rows]] + cuts.starts[rows] + so_far + ahead
    return (rows * (length + 1) + columns)[some], target[some]


def _padded(task: str, at: np.ndarray[Any, Any], columns: np.ndarray[Any, Any], size: int) -> Batch:
    count = len(at)
    flat, target, weight = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.float32)
    flat[:count], target[:count], weight[:count] = at, columns, 1.0
    return {f"{task}_at": flat, f"{task}_target": target, f"{task}_weight": weight}
