"""Platt scaling by task and number of shots: raw scores become probabilities (Platt, 1999)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from services.training.data import TrainingData
from services.training.episodes import (
    LONG_HISTORIES,
    PROTOCOL_QUERY,
    Moments,
    events_so_far,
    excluded,
    moments_for,
    protocol_episodes,
    query_sets,
)
from services.training.scores import episode_scores, in_parts
from services.training.trends import Recent
from services.training.validate import PEOPLE_LOOKED_AT
from services.training.windows import LIKED_LABEL, Cuts
from shared.domain import Calibration, FloatArray, IntArray
from shared.holdout import Role
from shared.modeling.config import CHOICES
from shared.modeling.model import WarmstartModel

Float64Array = NDArray[np.float64]
SHOTS = (0, 1, 2, 5, 10, 20)
# Numbers of shots beyond the protocol; the most that a model takes comes after them.
_MORE_SHOTS = (40, 80, 160)
# A scale beyond these comes from data that says nothing.
_SCALES = (0.05, 20.0)
# Holds the scale near 1 where there are few people: as one unsure event would.
_PRIOR = 1.0
# Of fewer people a long history says more of them than of its length.
_FEWEST_PEOPLE = 10
# Scores are as good as equal within such a part of the way from the lowest to the highest.
_BINS = 20_000
# Hits taken where there are none, so that the offset stays finite.
_FEWEST_HITS = 0.5


def calibrate(
    model: WarmstartModel, data: TrainingData, scores: Callable[[Cuts], FloatArray] | None = None
) -> Mapping[str, tuple[Calibration, ...]]:
    """By task, what makes sigmoid(scale · raw score + offset) the probability that a person does it to an
    item among their next ten events.

    Fitted on the validation people's episodes (training people's where there are no validation people with
    enough events), over all items that they have not had: by the evaluation's protocol, and beyond its 20
    shots (of short histories: beyond the latest of `moments_for`) with the first so many events of the people
    who have as many. Empty where nobody has enough events.

    scores: raw ones of episodes, [B, T, N], where they are not the model's own.
    """
    users = data.users_of(Role.VALIDATION)
    moments = moments_for(data, users)
    if not len(protocol_episodes(data, users, 0, moments.before, moments.query)):
        users = data.users_of(Role.TRAIN)
        moments = moments_for(data, users)
    fits: dict[str, list[Calibration]] = {task: [] for task in CHOICES}
    rows = None if scores else model.item_rows()
    recent = Recent.of(data) if model.trends.prior else None
    for shots, cuts in _episodes(data, users, moments, model.config.max_length):
        seen: dict[str, list[Binned]] = {task: [] for task in CHOICES}
        for few in in_parts(cuts, num_items=data.num_items, num_tasks=len(model.config.tasks)):
            unseen = excluded(events_so_far(data, few), data.num_items) == 0
            if not unseen.any():
                continue
            raw = scores(few) if scores else episode_scores(model, data, few, rows, recent)
            targets, there, labels = query_sets(data, few, PROTOCOL_QUERY)
            for number, (task, wanted) in enumerate(
                zip(CHOICES, (there, there * (labels >= LIKED_LABEL)), strict=True)
            ):
                done = np.zeros(unseen.shape, bool)
                people, columns = np.nonzero(wanted)
                done[people, targets[people, columns]] = True
                seen[task].append(binned(raw[:, number][unseen], done[unseen]))
        for task, parts in seen.items():
            if parts:
                fits[task].append(Calibration(shots, *platt(parts)))
    return {task: tuple(found) for task, found in fits.items()}


def _episodes(data: TrainingData, users: IntArray, moments: Moments, most: int) -> Iterator[tuple[int, Cuts]]:
    """By ascending number of shots; only those that somebody has the events for."""
    before = moments.before[:1] if moments is LONG_HISTORIES else moments.before
    for shots in (*SHOTS, *(k for k in (*_MORE_SHOTS, most) if SHOTS[-1] < k <= most)):
        if shots <= before[-1]:
            cuts = protocol_episodes(data, users[:PEOPLE_LOOKED_AT], shots, before, moments.query)
            if len(cuts):
                yield shots, cuts
            continue
        able = users[data.lengths[users] >= shots + moments.query][:PEOPLE_LOOKED_AT]
        if len(able) >= _FEWEST_PEOPLE:
            yield shots, Cuts(able.astype(np.int32), np.zeros(len(able), np.int64), np.full(len(able), shots))


class Binned(NamedTuple):
    """Scores of which those that are nearly equal stand together: their means x [m], ascending, how many each
    stands for, copies [m], and the scores of what was done, hits [h]. float64."""

    x: Float64Array
    copies: Float64Array
    hits: Float64Array


def platt(parts: Sequence[Binned]) -> tuple[float, float]:
    """(scale, offset) of the likeliest sigmoid(scale · score + offset), whose sum equals the number of hits,
    for all parts together. The scale has a weak prior at 1 and is above 0."""
    x, copies, hits = (np.concatenate(kind) for kind in zip(*parts, strict=True))

    def loss(parameters: Float64Array) -> tuple[float, Float64Array]:
        scale, offset = parameters
        logits = scale * x + offset
        value = copies @ np.logaddexp(0.0, logits) - (scale * hits + offset).sum()
        errors = copies * expit(logits)
        gradient = np.array([errors @ x - hits.sum(), errors.sum() - len(hits)])
        away = scale - 1.0
        return value + 0.5 * _PRIOR * away**2, gradient + np.array([_PRIOR * away, 0.0])

    wanted = max(float(len(hits)), _FEWEST_HITS)
    scale = 1.0
    if len(hits):
        start = np.array([1.0, offset_for(x, wanted, copies)])
        scale = float(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[_SCALES, (None, None)]).x[0])
    return scale, offset_for(scale * x, wanted, copies)


def binned(scores: FloatArray, done: NDArray[np.bool_]) -> Binned:
    """scores, done: [n], tens of millions for a large catalogue."""
    x = scores.astype(np.float64)
    low = float(x.min())
    width = max((float(x.max()) - low) / _BINS, np.finfo(np.float64).tiny)
    places = np.minimum((x - low) / width, _BINS).astype(np.int64)
    counts, sums = np.bincount(places), np.bincount(places, x)
    some = counts > 0
    return Binned(sums[some] / counts[some], counts[some].astype(np.float64), x[done])


def offset_for(
    scores: FloatArray | Float64Array, hits: float, copies: FloatArray | Float64Array | float = 1.0
) -> float:
    """The o with Σ copies · sigmoid(score + o) = hits, by bisection; hits between 0 and the sum of copies."""
    low, high = -40.0 - float(scores.max()), 40.0 - float(scores.min())
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if (copies * expit(scores + middle)).sum() < hits else (low, middle)
    return (low + high) / 2.0
