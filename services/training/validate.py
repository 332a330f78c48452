"""Looks at validation people: NDCG for early stopping, and the offsets that make scores probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.episodes import (
    PROTOCOL_EVENTS_BEFORE,
    PROTOCOL_QUERY,
    episode_inputs,
    events_so_far,
    excluded,
    protocol_episodes,
    query_sets,
)
from services.training.windows import LIKED_LABEL, Cuts
from shared.domain import FloatArray, IntArray
from shared.holdout import Role
from shared.modeling.config import NEXT_TASK, TASKS
from shared.modeling.model import WarmstartModel

_CALIBRATION_SHOTS = (0, 1, 2, 5, 10, 20)
_CALIBRATION_PEOPLE = 500


def validation_ndcg(
    model: WarmstartModel, data: TrainingData, users: IntArray, shots: tuple[int, ...]
) -> float:
    """Mean NDCG@10 of task `next` over people and numbers of shots, by the evaluation's protocol.

    0 where no person has enough events.
    """
    values = [ndcg_of(model, data, protocol_episodes(data, users, k)) for k in shots]
    return float(np.mean([v.mean() if len(v) else 0.0 for v in values]))


def ndcg_of(model: WarmstartModel, data: TrainingData, cuts: Cuts, *, adapt: bool = True) -> FloatArray:
    """NDCG@10 of task `next` of each episode, whole catalogue, events so far masked. [B] float32."""
    if not len(cuts):
        return np.zeros(0, np.float32)
    scores = episode_scores(model, data, cuts, adapt=adapt)[:, TASKS.index(NEXT_TASK)]
    scores[excluded(events_so_far(data, cuts), data.num_items) > 0] = -np.inf
    targets, there, _ = query_sets(data, cuts, PROTOCOL_QUERY)
    return ndcg_at_10(scores, targets, there)


def ndcg_at_10(scores: FloatArray, targets: IntArray, there: FloatArray) -> FloatArray:
    """scores [B, N]; targets, there [B, Q]. Items with equal scores: the first in the catalogue first."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    wanted = np.zeros(scores.shape, bool)
    rows, columns = np.nonzero(there)
    wanted[rows, targets[rows, columns]] = True
    discounts = 1.0 / np.log2(np.arange(2, 12))
    gained = np.take_along_axis(wanted, best, axis=1) @ discounts[: best.shape[1]]
    ideal = np.cumsum(discounts)[np.clip(wanted.sum(axis=1), 1, 10) - 1]
    result: FloatArray = (gained / ideal).astype(np.float32)
    return result


def episode_scores(
    model: WarmstartModel, data: TrainingData, cuts: Cuts, *, adapt: bool = True
) -> FloatArray:
    """Raw scores of the whole catalogue. [B, T, N] float32."""
    length = max(PROTOCOL_EVENTS_BEFORE, int(cuts.counts.max()))
    batch = episode_inputs(data, cuts, length)
    rows = model.item_rows()
    on = batch["mask"][..., None]
    inputs = {name: tf.constant(value) for name, value in batch.items() if name != "items"}
    inputs["input_rows"] = tf.gather(rows.input, batch["items"]) * on
    inputs["support_rows"] = tf.gather(rows.support, batch["items"]) * on
    queries, _, _ = model.encode_adapt(inputs, tf.fill([len(cuts)], 1.0 if adapt else 0.0))
    scores: FloatArray = tf.einsum("btd,nd->btn", queries, rows.output).numpy()
    return scores


def task_offsets(model: WarmstartModel, data: TrainingData) -> Mapping[str, float]:
    """The offset of each task that makes sigmoid(raw score + offset) a probability: that of the person
    doing it to the item among their next ten events.

    Right on average over the validation people's episodes (training people's where there are no
    validation people with enough events), at 0 to 20 shots, over all items that they have not had.
    """
    users = data.users_of(Role.VALIDATION)
    if not len(protocol_episodes(data, users, 0)):
        users = data.users_of(Role.TRAIN)
    scores: list[list[FloatArray]] = [[] for _ in TASKS]
    hits = np.zeros(len(TASKS))
    for shots in _CALIBRATION_SHOTS:
        cuts = protocol_episodes(data, users[:_CALIBRATION_PEOPLE], shots)
        if not len(cuts):
            return dict.fromkeys(TASKS, 0.0)
        found = episode_scores(model, data, cuts)
        unseen = excluded(events_so_far(data, cuts), data.num_items) == 0
        _, there, labels = query_sets(data, cuts, PROTOCOL_QUERY)
        for number, done in enumerate((there, there * (labels >= LIKED_LABEL))):
            scores[number].append(found[:, number][unseen])
            hits[number] += done.sum()
    return {
        task: offset_for(np.concatenate(scores[number]), hits[number]) for number, task in enumerate(TASKS)
    }


def offset_for(scores: FloatArray, hits: float) -> float:
    """The o with Σ sigmoid(score + o) = hits, by bisection; hits between 0 and the number of scores."""
    low, high = -40.0 - float(scores.max()), 40.0 - float(scores.min())
    for _ in range(60):
        middle = (low + high) / 2.0
        total = np.sum(1.0 / (1.0 + np.exp(-(scores.astype(np.float64) + middle))))
        low, high = (middle, high) if total < hits else (low, middle)
    return (low + high) / 2.0
