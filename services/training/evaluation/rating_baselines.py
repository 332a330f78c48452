"""What foretold stars must beat: an item's mean and a person's level, and matrix factorisation with fold-in.
Both read old people's ratings of old items, and are tuned on validation people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from services.training.data import Int64Array, TrainingData
from services.training.evaluation.metrics import Float64Array
from services.training.evaluation.rating import (
    FEWEST,
    MOST,
    Answers,
    Foretell,
    StarQuestions,
    answers_of,
    score,
    validation_questions,
)
from services.training.windows import rated
from shared.domain import FloatArray, IntArray
from shared.holdout import Role
from shared.modeling.factors import rating_rows

_ITEM_SHRINKAGE = 5.0
_SWEEPS = 10
LEVELS = (1.0, 2.0, 3.0, 5.0, 8.0)
NOISES = (4.0, 6.0, 8.0, 12.0, 16.0)
_DIM = 16
LEVEL, FACTORS, FEW_FACTORS = "item mean + level", "factorisation", "factorisation, MeLU's people"


@dataclass(frozen=True, slots=True, eq=False)
class LinearStars:
    """stars = mean + b_i + δ · row_i, δ by ridge from the support. rows [N, K], biases [N], ridge [K]."""

    mean: float
    biases: Float64Array
    rows: Float64Array
    ridge: Float64Array

    def over(self, data: TrainingData) -> Foretell:
        def foretell(questions: StarQuestions) -> FloatArray:
            said = [
                self.one(data, support, query)
                for support, query in zip(questions.support, questions.query, strict=True)
            ]
            return np.array(said, np.float32).reshape(questions.query.shape)

        return foretell

    def one(self, data: TrainingData, support: Int64Array, query: Int64Array) -> Float64Array:
        """support, query: places of the data's events."""
        rows = self.rows[data.items[support]]
        left = data.values[support] - self.mean - self.biases[data.items[support]]
        delta = np.linalg.solve(rows.T @ rows + np.diag(self.ridge), rows.T @ left)
        items = data.items[query]
        said: Float64Array = self.mean + self.biases[items] + self.rows[items] @ delta
        return said


def level_models(stars: csr_matrix) -> list[LinearStars]:
    """Shrunk item means of what people's levels leave, and a level for each person; by its shrinkage."""
    table = stars.tocoo()
    mean = float(table.data.mean())
    left = table.data - mean
    counts = [
        np.bincount(axis, minlength=size)
        for axis, size in zip((table.row, table.col), table.shape, strict=True)
    ]
    levels, biases = np.zeros(table.shape[0]), np.zeros(table.shape[1])
    for _ in range(_SWEEPS):
        biases = np.bincount(table.col, left - levels[table.row], len(biases)) / (counts[1] + _ITEM_SHRINKAGE)
        levels = np.bincount(table.row, left - biases[table.col], len(levels)) / (counts[0] + _ITEM_SHRINKAGE)
    ones = np.ones((len(biases), 1))
    return [LinearStars(mean, biases, ones, np.array([level])) for level in LEVELS]


def factor_models(stars: csr_matrix) -> list[LinearStars]:
    """Matrix factorisation without content, and fold-in; by the fold-in's ridge of tastes."""
    found = rating_rows(stars, np.zeros((stars.shape[1], 1), np.float32), dim=_DIM)
    rows = np.concatenate([found.rows[:, :-1], np.ones((len(found.rows), 1))], axis=1).astype(np.float64)
    biases = found.rows[:, -1].astype(np.float64)
    return [LinearStars(found.mean, biases, rows, np.array([noise] * _DIM + [3.0])) for noise in NOISES]


def answers_of_tuned(
    data: TrainingData, asked: Mapping[str, StarQuestions], new: IntArray, seed: int
) -> dict[str, Answers]:
    """What the tuned baselines foretell, by name."""
    return {name: answers_of(foretell, asked) for name, foretell in tuned(data, new, seed=seed).items()}


def tuned(data: TrainingData, new: IntArray, *, seed: int) -> dict[str, Foretell]:
    """The baselines by name. new: numbers of the new items; seed: of what validation people are asked."""
    judges = validation_questions(data, new, seed=seed)
    stars, few = training_stars(data, new), training_stars(data, new, as_many=True)
    grids = {LEVEL: level_models(stars), FACTORS: factor_models(stars), FEW_FACTORS: factor_models(few)}
    return {name: best(grid, data, judges).over(data) for name, grid in grids.items()}


def best(models: Sequence[LinearStars], data: TrainingData, judges: StarQuestions) -> LinearStars:
    """The one with the least absolute error on validation people; the first of equals."""
    return min(models, key=lambda model: score(data, judges, [model.over(data)(judges)]).mae)


def training_stars(data: TrainingData, new: IntArray, *, as_many: bool = False) -> csr_matrix:
    """Old people's ratings of old items [people, N]; validation people's are left out, who judge.

    as_many: only of people who have as many of them as MeLU trains on.
    """
    places = rated(data.actions) & ~np.isin(data.items, new) & (data.roles[data.owners] == Role.TRAIN)
    if as_many:
        counts = np.bincount(data.owners[places], minlength=data.num_users)
        places &= ((counts >= FEWEST) & (counts <= MOST))[data.owners]
    where = (data.owners[places], data.items[places])
    return csr_matrix((data.values[places].astype(np.float64), where), shape=(data.num_users, data.num_items))
