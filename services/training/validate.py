"""Looks at validation people: NDCG for early stopping, the best γ of fast weights, κ of transitions, ω of
trends, σ of stars and τ of the state at no shots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from services.training.data import TrainingData
from services.training.episodes import (
    Moments,
    events_so_far,
    excluded,
    moments_for,
    protocol_episodes,
    query_sets,
)
from services.training.scores import ScoreParts, in_parts, score_parts
from services.training.trends import Recent
from services.training.windows import LIKED_LABEL, Cuts
from shared.domain import FloatArray, IntArray
from shared.modeling.config import CHOICES, LIKE_TASK
from shared.modeling.encoder import COUNT_KNOTS
from shared.modeling.model import WarmstartModel
from shared.transitions import KAPPAS
from shared.trends import OMEGAS

PEOPLE_LOOKED_AT = 500
# By what is chosen once, after training: with 500, κ came out twice as large as three times as many people of
# Amazon Games spoke for, at 2% of their NDCG@10.
PEOPLE_ASKED = 1500
GAMMA_FACTORS = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
SIGMAS = (0.0, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0)
TAU_FACTORS = (0.1, 0.18, 0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What validation people say of fast weights.

    ndcg: mean NDCG@10 of task `next` over people and numbers of shots, with the factors applied;
    factors: by task, what γ should be multiplied by.
    """

    ndcg: float
    factors: tuple[float, ...]


def look(model: WarmstartModel, data: TrainingData, users: IntArray, shots: Sequence[int]) -> float:
    """NDCG@10 of task `next` without fast weights, by the evaluation's protocol and also later in a history
    (`moments_for`): the mean over people and numbers of shots, 0 where no person has enough events."""
    return _mean_of_next(_tables(model, data, users, shots, (0.0,), ScoreParts.by_gamma), 0)


def choose_gamma(model: WarmstartModel, data: TrainingData, users: IntArray, shots: Sequence[int]) -> Chosen:
    """The best factor of γ out of `GAMMA_FACTORS`, as `look` sees it.

    A loss on training people would make γ too large (rows have seen their events), and likelihood
    makes it too small (it goes by the whole catalogue, not by the first ten). Neighbouring factors are
    averaged. Of those within one standard error of the best, the nearest to 1 is taken (the
    one-standard-error rule of Breiman et al., 1984): validation people are few.
    """
    tables = _tables(model, data, users, shots, GAMMA_FACTORS, ScoreParts.by_gamma)
    if not len(tables):
        return Chosen(0.0, (1.0,) * len(CHOICES))
    by_task = over_shots(tables)
    places = [near_best(by_task[task]) for task in range(len(CHOICES))]
    return Chosen(_mean_of_next(tables, places[0]), tuple(GAMMA_FACTORS[place] for place in places))


def choose_kappa(
    model: WarmstartModel, data: TrainingData, users: IntArray, shots: Sequence[int]
) -> tuple[FloatArray | None, float]:
    """The best of `KAPPAS` by number of shots and task, with fast weights as they are, see `crests`.

    Returns κ at the knots of the heads, [knots, T], and NDCG@10 of task `next` with it, as `look` has it;
    None and 0 where nobody has enough events.
    """
    tables = _tables(model, data, users, shots, KAPPAS, ScoreParts.by_kappa, most=PEOPLE_ASKED)
    if not len(tables):
        return None, 0.0
    places = crests(tables)
    ndcg = [np.nanmean(table[0, place]) for table, place in zip(tables, places[:, 0], strict=True)]
    return _at_knots(np.asarray(KAPPAS)[places], shots), float(np.mean(ndcg))


def choose_omega(
    model: WarmstartModel, data: TrainingData, users: IntArray, shots: Sequence[int], recent: Recent
) -> tuple[FloatArray | None, float]:
    """The best of `OMEGAS` by number of shots and task, with everything else as it is, see `crests`; 0 where
    that is better by no more than twice its standard error (`is_sure`): on MovieLens-1M, where trends say
    nothing, once was passed by chance at every third number of shots. shots: 0 the first, which is apart from
    the others: of somebody unknown what is chosen now says most. recent: what was chosen when.

    Returns ω at the knots of the heads, [knots, T], and NDCG@10 with it, the mean over tasks and numbers of
    shots; None and 0 where nobody has enough events.
    """
    tables = _tables(model, data, users, shots, OMEGAS, ScoreParts.by_omega, most=PEOPLE_ASKED, recent=recent)
    if not len(tables):
        return None, 0.0
    people = _asked(data, users)
    places = np.concatenate([crests(part) for part in (tables[:1], tables[1:]) if len(part)])
    seen = []
    for table, chosen in zip(tables, places, strict=True):
        for task, place in enumerate(chosen.tolist()):
            if not is_sure(table[task, place] - table[task, 0], people, errors=2.0):
                chosen[task] = 0
            said = table[task, chosen[task]]
            seen.append(said[~np.isnan(said)].mean() if not np.isnan(said).all() else 0.0)
    values = np.asarray(OMEGAS)[places]
    omega = np.zeros((len(COUNT_KNOTS), len(CHOICES)), np.float32)
    omega[0] = values[0]
    if len(values) > 1:
        omega[1:] = _at_knots(values[1:], shots[1:])
    return omega, float(np.mean(seen))


def choose_sigma(
    model: WarmstartModel, data: TrainingData, users: IntArray, shots: Sequence[int]
) -> FloatArray | None:
    """The best of `SIGMAS` for task `like` by number of shots, with everything else as it is, see `crests`.
    At the knots of the heads, [knots]; None where nobody has enough events."""
    tables = _tables(model, data, users, shots, SIGMAS, ScoreParts.by_sigma, most=PEOPLE_ASKED)
    if not len(tables):
        return None
    return _at_knots(np.asarray(SIGMAS)[crests(tables)], shots)[:, CHOICES.index(LIKE_TASK)]


def choose_tau(model: WarmstartModel, data: TrainingData, users: IntArray) -> FloatArray | None:
    """What τ should be multiplied by where nothing is known of a person: the best of `TAU_FACTORS` by task,
    see `crests`; 1 where that is better by no more than the standard error of it (over people, each of whom
    may be asked at several moments), as a few people would speak for anything. [T]; None where nobody has
    enough events."""
    tables = _tables(model, data, users, (0,), TAU_FACTORS, ScoreParts.by_tau, most=PEOPLE_ASKED)
    if not len(tables):
        return None
    people = _asked(data, users)
    start = TAU_FACTORS.index(1.0)
    (places,) = crests(tables, start)
    gains = [table[place] - table[start] for table, place in zip(tables[0], places, strict=True)]
    factors = [
        TAU_FACTORS[place if is_sure(gain, people) else start]
        for gain, place in zip(gains, places, strict=True)
    ]
    return np.array(factors, np.float32)


def _asked(data: TrainingData, users: IntArray) -> int:
    """How many people speak for what is chosen once."""
    return len(_with_enough(data, users, moments_for(data, users))[:PEOPLE_ASKED])


def is_sure(gains: FloatArray, people: int, *, errors: float = 1.0) -> bool:
    """Whether their mean is above so many of its standard errors, where episodes of one person say the same.
    [episodes], nan = no say."""
    said = gains[~np.isnan(gains)]
    count = min(people, len(said))
    return count > 1 and bool(said.mean() > errors * said.std(ddof=1) / np.sqrt(count))


def _at_knots(values: NDArray[np.float64], shots: Sequence[int]) -> FloatArray:
    """What was chosen at numbers of shots (of these, the first), at the knots of the heads. [n, T] → [knots,
    T]."""
    knots, seen = np.log1p(np.asarray(COUNT_KNOTS[1:])), np.log1p(shots[: len(values)])
    return np.stack([np.interp(knots, seen, of_task) for of_task in values.T], axis=1).astype(np.float32)


def over_shots(tables: FloatArray) -> FloatArray:
    """The mean over the numbers of shots that an episode has room for and wants something at, nan where it
    has none. [shots, T, factors, B] → [T, factors, B]."""
    there = ~np.isnan(tables)
    counts = there.sum(axis=0)
    sums = np.where(there, tables, 0.0).sum(axis=0)
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _mean_of_next(tables: FloatArray, factor: int) -> float:
    """Over the episodes of each number of shots, and then over these. 0 where there are none."""
    return float(np.mean([np.nanmean(table[0, factor]) for table in tables])) if len(tables) else 0.0


def near_best(table: FloatArray) -> int:
    """The place among `GAMMA_FACTORS` that figures speak for: near the best and least far from 1.
    [factors, episodes], nan = no say."""
    distances = [abs(float(np.log(factor))) for factor in GAMMA_FACTORS]
    table = table[:, ~np.isnan(table).any(axis=0)]
    if not table.shape[1]:
        return int(np.argmin(distances))
    smooth = _smooth(table, axis=0)
    short = smooth[smooth.mean(axis=1).argmax()] - smooth
    error = short.std(axis=1) / np.sqrt(short.shape[1])
    near = np.flatnonzero(short.mean(axis=1) <= error)
    return min(near.tolist(), key=lambda place: distances[place])


def crests(tables: FloatArray, start: int = 0) -> IntArray:
    """The place of the best factor by number of shots and task, where neighbouring factors and neighbouring
    numbers of shots are averaged; where nothing is better than the factor at the place `start`, that.

    Not of those within one standard error the smallest, as for γ: a κ has few people of its own to speak for
    it. Chosen by one half of validation people and tried on the other (MovieLens-1M, a hundred times) this
    rule gives .0008 (next) and .0014 (like) more NDCG@10 than that one.

    tables: [shots, T, factors, episodes], nan = no say. Returns [shots, T].
    """
    more = tables - tables[:, :, start : start + 1]
    there = ~np.isnan(more)
    curves = np.where(there, more, 0.0).sum(axis=3) / np.maximum(there.sum(axis=3), 1)
    curves = _smooth(_smooth(curves, axis=0), axis=2)
    places: IntArray = np.where(curves.max(axis=2) > curves[:, :, start], curves.argmax(axis=2), start)
    return places


def _smooth(values: FloatArray, *, axis: int) -> FloatArray:
    """A quarter of each neighbour and a half of the value itself; past the ends, the ends again."""
    values = np.moveaxis(values, axis, 0)
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.moveaxis((padded[:-2] + 2.0 * padded[1:-1] + padded[2:]) / 4.0, 0, axis)


def _tables(
    model: WarmstartModel,
    data: TrainingData,
    users: IntArray,
    shots: Sequence[int],
    factors: Sequence[float],
    parts_by: Callable[[ScoreParts], tuple[FloatArray, FloatArray]],
    *,
    most: int = PEOPLE_LOOKED_AT,
    recent: Recent | None = None,
) -> FloatArray:
    """NDCG@10 of scores + factor · more by number of shots, task and factor, over people and moments: [shots,
    T, factors, B], nan where nothing is wanted or a moment has no room for the shots. Numbers of shots that
    no moment has room for are left out, and so are all where nobody has enough events. most: so many of the
    people are asked; recent: as `score_parts` wants it."""
    moments = moments_for(data, users)
    users = _with_enough(data, users, moments)[:most]
    rows = model.item_rows()
    tables = []
    for k in shots:
        parts = []
        for before in moments.before:
            cuts = protocol_episodes(data, users, min(k, before), (before,), moments.query)
            if k <= before and len(cuts):
                for few in in_parts(cuts, num_items=data.num_items, num_tasks=len(model.config.tasks)):
                    scores, more = parts_by(score_parts(model, data, few, rows, recent))
                    parts.append(_by_factor(data, few, scores, more, factors, moments.query))
            else:
                parts.append(np.full((len(CHOICES), len(factors), len(cuts)), np.nan, np.float32))
        table = np.concatenate(parts, axis=2)
        if not np.isnan(table).all():
            tables.append(table)
    return np.stack(tables) if tables else np.zeros((0, len(CHOICES), len(factors), 0), np.float32)


def _with_enough(data: TrainingData, users: IntArray, moments: Moments) -> IntArray:
    """The people who can be asked at the first moment at least."""
    return users[data.lengths[users] >= moments.before[0] + moments.query]


def _by_factor(
    data: TrainingData,
    cuts: Cuts,
    fixed: FloatArray,
    more: FloatArray,
    factors: Sequence[float],
    query: int,
) -> FloatArray:
    had = excluded(events_so_far(data, cuts), data.num_items) > 0
    targets, there, labels = query_sets(data, cuts, query)
    table = np.full((len(CHOICES), len(factors), len(cuts)), np.nan, np.float32)
    for task, wanted in enumerate((there, there * (labels >= LIKED_LABEL))):
        some = wanted.any(axis=1)
        for place, factor in enumerate(factors):
            scores = fixed[some, task] + factor * more[some, task]
            scores[had[some]] = -np.inf
            table[task, place, some] = ndcg_at_10(scores, targets[some], wanted[some])
    return table


def ndcg_at_10(scores: FloatArray, targets: IntArray, there: FloatArray) -> FloatArray:
    """scores [B, N]; targets, there [B, Q]. Items with equal scores: the first in the catalogue first."""
    best = tf.math.top_k(scores, min(10, scores.shape[1])).indices.numpy()
    wanted = np.zeros(scores.shape, bool)
    rows, columns = np.nonzero(there)
    wanted[rows, targets[rows, columns]] = True
    discounts = 1.0 / np.log2(np.arange(2, 12))
    gained = np.take_along_axis(wanted, best, axis=1) @ discounts[: best.shape[1]]
    ideal = np.cumsum(discounts)[np.clip(wanted.sum(axis=1), 1, 10) - 1]
    result: FloatArray = (gained / ideal).astype(np.float32)
    return result
