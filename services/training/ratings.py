"""The task `rating` beside the body: its rows from the data at the start, its few numbers at the end.

Rows and body learn from training people; how much ratings say of each other, how much the body's word
counts beside them, and how much they count in task `like`, is fitted to validation people, as rows have seen
the very ratings of training people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from services.training.data import Int64Array, TrainingData
from services.training.episodes import as_of
from services.training.validate import choose_sigma
from services.training.windows import Batch, event_inputs, generator, rated
from shared.adapters import Ratings
from shared.adapters.ratings import fold_in
from shared.context.labels import signed_labels
from shared.domain import FloatArray, IntArray
from shared.holdout import Role
from shared.modeling.config import RATING_TASK, STARS
from shared.modeling.encoder import COUNT_KNOTS, hat_features
from shared.modeling.factors import rating_rows
from shared.modeling.losses import squared_loss
from shared.modeling.model import WarmstartModel

Tensor = Any
Float64Array = NDArray[np.float64]
_STAGE = 4
SHOTS = (0, 1, 3, 8, 20, 64)
_QUERY = 10
_MOST_PEOPLE = 500
# Holds each number near its start where there are few people: as so many ratings that say so would.
_PRIOR = 4.0


def has_ratings(data: TrainingData) -> bool:
    """Whether training people rate at all; without that a model has no task `rating`."""
    return bool(_places(data, data.users_of(Role.TRAIN)).any())


def start_ratings(model: WarmstartModel, data: TrainingData) -> None:
    """Rating rows of the catalogue, and the map that makes them from content, by factorising training
    people's ratings; the offset is the mean of these. Without any: rows of zeros and the middle of the
    scale."""
    stars = _star_table(data, _places(data, data.users_of(Role.TRAIN)))
    offsets = model.heads.offsets.numpy()
    offsets[model.config.tasks.index(RATING_TASK)] = sum(STARS) / 2
    if stars.nnz:
        found = rating_rows(stars, model.projected.numpy(), dim=model.config.rating_dim)
        model.tables["r"].assign(found.rows)
        model.tower.ratings.kernel.assign(found.kernel)
        model.tower.ratings.bias.assign(found.constant)
        offsets[model.config.tasks.index(RATING_TASK)] = found.mean
    model.heads.offsets.assign(offsets)


def fit_ratings(model: WarmstartModel, data: TrainingData, *, seed: int) -> dict[str, float]:
    """Fits the fold-in's noise, level and slope, and how much the body counts beside it (τ of the task by
    number of shots), in place: least squares on validation people's ratings (training people's where
    validation people have none), each asked after several numbers of their ratings.

    Returns the root mean squared error; nothing where there is nothing to fit.
    """
    if not (model.config.rating_dim and model.adapter.learns_rows):
        return {}
    people = data.users_of(Role.VALIDATION)
    if not _places(data, people).any():
        people = data.users_of(Role.TRAIN)
    questions = _ask(data, people[:_MOST_PEOPLE], model.config.max_length, generator(seed, _STAGE, 0))
    if questions is None:
        return {}
    asked = _Asked.of(model, data, questions)
    variables = model.adapter.ratings.variables
    number = model.config.tasks.index(RATING_TASK)
    taus = model.heads.log_tau.numpy()
    start = np.concatenate([np.log([v.numpy() for v in variables]), taus[:, number]])

    def loss(logs: Float64Array) -> tuple[float, Float64Array]:
        given = tf.constant(logs, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(given)
            away = tf.reduce_sum((given - start.astype(np.float32)) ** 2) / tf.reduce_sum(asked.mask)
            value = asked.loss(tf.exp(given)) + _PRIOR * away
        return float(value), tape.gradient(value, given).numpy().astype(np.float64)

    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    for variable, value in zip(variables, np.exp(best[: len(variables)]), strict=True):
        variable.assign(value)
    taus[:, number] = best[len(variables) :]
    model.heads.log_tau.assign(taus)
    return {"rating_rmse": float(np.sqrt(asked.loss(tf.constant(np.exp(best), tf.float32))))}


def share_stars(model: WarmstartModel, data: TrainingData, shots: Sequence[int]) -> None:
    """Gives a finished model σ, the share of a rating's fast weights that task `like` asks by, in place: at
    each number of shots what validation people's NDCG@10 speaks for. A model without ratings or fast weights
    stays as it is, and so does one that nobody can be asked about."""
    if not (model.config.rating_dim and model.adapter.learns_rows):
        return
    sigma = choose_sigma(model, data, data.users_of(Role.VALIDATION), shots)
    if sigma is not None:
        model.heads.sigma.assign(sigma)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Questions to B people, and what needs no fitting of their answers.

    given: their ratings; rows [B, Q, R + 2], body, stars, mask [B, Q]: of the items asked for, what the body
    says of them, and the stars less what everybody thinks; knots [B, K]: of the number of shots.
    """

    given: Ratings
    rows: Tensor
    body: Tensor
    stars: Tensor
    mask: Tensor
    knots: Tensor

    @classmethod
    def of(cls, model: WarmstartModel, data: TrainingData, questions: _Questions) -> _Asked:
        rows = model.item_rows()
        asked = data.items[questions.query]
        batch = support_batch(data, questions)
        inputs = {name: tf.constant(value) for name, value in batch.items() if name != "items"}
        for name, table in (("input_rows", rows.input), ("support_rows", rows.support)):
            inputs[name] = tf.gather(table, batch["items"]) * batch["mask"][..., None]
        queries = model.encode_adapt(inputs, tf.zeros(len(asked))).queries
        shots = np.minimum(batch["mask"].sum(axis=1), model.config.reach)
        knots = hat_features(tf.constant(shots, tf.float32), COUNT_KNOTS)
        number, dim = model.config.tasks.index(RATING_TASK), model.config.dim
        said = tf.einsum("bd,bqd->bq", queries[:, number, :dim], tf.gather(rows.output[:, :dim], asked))
        tau = tf.linalg.matvec(knots, tf.exp(model.heads.log_tau.value[:, number]))
        own = tf.gather(rows.support[:, model.config.adapt_dim :], asked)
        stars = data.values[questions.query] - model.offset(RATING_TASK) - own[..., -1]
        given, mask = model.ratings(inputs), tf.constant(questions.there)
        return cls(given, own, said / tau[:, None], stars, mask, knots)

    def loss(self, numbers: Tensor) -> Tensor:
        """numbers: noise, level, slope, and τ at each knot."""
        tastes = fold_in(self.given, *tf.unstack(numbers[:3]))
        tau = tf.linalg.matvec(self.knots, numbers[3:])
        said = tf.einsum("bqr,br->bq", self.rows, tastes) + tau[:, None] * self.body
        return squared_loss(said, self.stars, self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class _Questions:
    """users [B]; index, mask [B, L]: places of the ratings given, padded on the left; query, there [B, Q]:
    places of those asked for, and which there are."""

    users: IntArray
    index: Int64Array
    mask: FloatArray
    query: Int64Array
    there: FloatArray


def support_batch(data: TrainingData, questions: _Questions) -> Batch:
    """Model inputs as of the last of the ratings given or asked for."""
    batch = event_inputs(data, questions.index, questions.mask)
    batch["labels"] = signed_labels(batch["actions"], batch["values"])
    now = data.time_ms[data.offsets[questions.users + 1] - 1]
    return as_of(data, batch, questions.index, questions.users, now)


def _ask(data: TrainingData, users: IntArray, most: int, rng: np.random.Generator) -> _Questions | None:
    """Of each person at each number of shots that leaves something to ask, random ratings given and others
    asked for; None where nobody has two."""
    rated_places = _places(data, users)
    asked: list[tuple[int, Int64Array, Int64Array]] = []
    for user in users.tolist():
        start, end = data.offsets[user], data.offsets[user + 1]
        own = start + np.flatnonzero(rated_places[start:end])
        for shots in SHOTS:
            if shots <= min(most, len(own) - 1):
                drawn = rng.permutation(own)[: shots + _QUERY]
                asked.append((user, np.sort(drawn[:shots]), drawn[shots:]))
    if not any(len(given) for _, given, _ in asked):
        return None
    index, query = np.zeros((len(asked), most), np.int64), np.zeros((len(asked), _QUERY), np.int64)
    mask, there = np.zeros(index.shape, np.float32), np.zeros(query.shape, np.float32)
    for row, (_, given, wanted) in enumerate(asked):
        index[row, most - len(given) :], mask[row, most - len(given) :] = given, 1.0
        query[row, : len(wanted)], there[row, : len(wanted)] = wanted, 1.0
    return _Questions(np.array([user for user, _, _ in asked], np.int32), index, mask, query, there)


def _places(data: TrainingData, users: IntArray) -> NDArray[np.bool_]:
    """Which events are these people's ratings. [E]."""
    return rated(data.actions) & np.isin(data.owners, users)


def _star_table(data: TrainingData, places: NDArray[np.bool_]) -> csr_matrix:
    """[people, items], the latest stars of each."""
    pairs = data.owners[places].astype(np.int64) * data.num_items + data.items[places]
    latest, back = np.unique(pairs[::-1], return_index=True)
    stars = data.values[places][::-1][back]
    where = np.divmod(latest, data.num_items)
    return csr_matrix((stars, where), shape=(data.num_users, data.num_items))
