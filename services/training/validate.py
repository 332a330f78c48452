"""Looks at validation people: NDCG for early stopping, and the best γ for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from shared.modeling.config import TASKS
from shared.modeling.model import WarmstartModel

PEOPLE_LOOKED_AT = 500
GAMMA_FACTORS = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)


@dataclass(frozen=True, slots=True)
class Look:
    """What validation people say of a model.

    ndcg: mean NDCG@10 of task `next` over people and numbers of shots, with the factors applied;
    factors: by task, what γ should be multiplied by.
    """

    ndcg: float
    factors: tuple[float, ...]


def look(model: WarmstartModel, data: TrainingData, users: IntArray, shots: Sequence[int]) -> Look:
    """NDCG@10 by the evaluation's protocol, and the best factor of γ out of `GAMMA_FACTORS` for it.

    A loss on training people would make γ too large (rows have seen their events), and likelihood
    makes it too small (it goes by the whole catalogue, not by the first ten). Neighbouring factors are
    averaged before the best is taken. ndcg is 0 where no person has enough events.
    """
    users = users[:PEOPLE_LOOKED_AT]
    found = [_by_factor(model, data, protocol_episodes(data, users, k)) for k in shots]
    tables = [f for f in found if f is not None] or [np.zeros((len(TASKS), 1), np.float32)]
    table: FloatArray = np.mean(tables, axis=0)
    if table.shape[1] == 1:
        return Look(float(table[0, -1]), (1.0,) * len(TASKS))
    padded = np.pad(table, [(0, 0), (1, 1)], mode="edge")
    smooth = (padded[:, :-2] + 2.0 * padded[:, 1:-1] + padded[:, 2:]) / 4.0
    best = smooth.argmax(axis=1)
    return Look(float(table[0, best[0]]), tuple(GAMMA_FACTORS[place] for place in best))


def _by_factor(model: WarmstartModel, data: TrainingData, cuts: Cuts) -> FloatArray | None:
    """Mean NDCG@10 of each task at each factor; one column alone without an adapter. [T, factors]."""
    if not len(cuts):
        return None
    on = episode_scores(model, data, cuts)
    off = episode_scores(model, data, cuts, adapt=False) if model.adapter.learns_rows else on
    factors = GAMMA_FACTORS if model.adapter.learns_rows else (1.0,)
    had = excluded(events_so_far(data, cuts), data.num_items) > 0
    targets, there, labels = query_sets(data, cuts, PROTOCOL_QUERY)
    table = np.zeros((len(TASKS), len(factors)), np.float32)
    for task, wanted in enumerate((there, there * (labels >= LIKED_LABEL))):
        some = wanted.any(axis=1)
        for place, factor in enumerate(factors):
            scores = off[:, task] + factor * (on[:, task] - off[:, task])
            scores[had] = -np.inf
            table[task, place] = (
                ndcg_at_10(scores[some], targets[some], wanted[some]).mean() if some.any() else 0
            )
    return table


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
