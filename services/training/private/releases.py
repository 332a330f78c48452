"""What is told of training people once, as sums over them with noise: how often items are chosen, and which
are chosen by the same people.

A sum hides a person where nobody's part of it is longer than 1: each person is a vector of at most that
length, whatever they did (the Gaussian mechanism; Dwork and Roth, 2014, section 3.5.3). The matrix of who
chose what together is as in Dwork, Talwar, Thakurta and Zhang (2014, "Analyze Gauss").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack

from services.training.data import TrainingData
from services.training.private.secret import Secret
from services.training.windows import LIKED_LABEL
from shared.artifacts import Mechanism

Float64Array = NDArray[np.float64]
POPULARITY, TOGETHER = "popularity", "chosen together"
# Of the squared length of a person's vector: what they chose, what they liked of it, that they are there.
_SHARES = (0.72, 0.24, 0.04)
# People whose dense vectors are in memory at once.
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Popularity:
    """Noisy sums. chosen, liked: [N] float64, a person of n items adds 1/√n to each; people: how many there
    are; noise: standard deviation of a number of `chosen`, `liked_noise` of `liked`."""

    chosen: Float64Array
    liked: Float64Array
    people: float
    noise: float
    liked_noise: float


def release_popularity(data: TrainingData, mechanism: Mechanism, secret: Secret) -> Popularity:
    """One Gaussian mechanism on `person_vectors`."""
    size = data.num_items
    total = np.asarray(person_vectors(data).sum(axis=0)).ravel()
    noise = mechanism.noise_multiplier * mechanism.sensitivity
    total = total + noise * secret.normal(mechanism.name, 0, len(total))
    chosen, liked, there = np.sqrt(_SHARES)
    people = max(float(total[-1]) / there, 1.0)
    return Popularity(total[:size] / chosen, total[size:-1] / liked, people, noise / chosen, noise / liked)


def person_vectors(data: TrainingData) -> csr_matrix:
    """A row a person, of length 1 at most: [U, 2N + 1]."""
    chosen, liked, there = np.sqrt(_SHARES)
    parts = [chosen * _unit(_table(data, np.ones(data.num_events, np.bool_)))]
    parts.append(liked * _unit(_table(data, data.labels >= LIKED_LABEL)))
    parts.append(csr_matrix(np.full((data.num_users, 1), there)))
    return hstack(parts).tocsr()


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """items: [m], those that are told of, numbers of the catalogue; matrix: [m, m] float64, symmetric, the
    sum of r rᵀ over people with noise; noise: standard deviation of it off the diagonal."""

    items: NDArray[np.int64]
    matrix: Float64Array
    noise: float


def release_together(
    data: TrainingData, popularity: Popularity, most: int, mechanism: Mechanism, secret: Secret
) -> Together:
    """One Gaussian mechanism on `person_tastes` of the `most` most popular items, as the noisy popularity has
    them.

    Written down isometrically (entries off the diagonal once, times √2), a person's r rᵀ is |r|² ≤ 1 long.
    """
    items = np.argsort(-popularity.chosen, kind="stable")[:most]
    total = np.zeros((len(items), len(items)))
    for first in range(0, data.num_users, _AT_ONCE):
        keep = np.zeros(data.num_users, np.bool_)
        keep[first : first + _AT_ONCE] = True
        tastes = person_tastes(data.select_users(keep), popularity, items)
        total += tastes.T @ tastes
    noise = mechanism.noise_multiplier * mechanism.sensitivity
    upper = np.triu_indices(len(items))
    drawn = np.zeros_like(total)
    drawn[upper] = noise * secret.normal(mechanism.name, 0, len(upper[0]))
    # Off the diagonal the noise was put on √2 times the entry.
    noisy = total + np.diag(np.diag(drawn)) + (np.triu(drawn, 1) + np.triu(drawn, 1).T) / np.sqrt(2.0)
    return Together(items, noisy, noise / np.sqrt(2.0))


def person_tastes(data: TrainingData, popularity: Popularity, items: NDArray[np.int64]) -> Float64Array:
    """r of each person: what they chose of the items, of length 1, less what is but popularity (its direction
    is projected out, which makes nothing longer). [U, m]."""
    table = _table(data, np.ones(data.num_events, np.bool_))[:, items]
    chosen = np.asarray(_unit(table).todense(), np.float64)
    usual = np.maximum(popularity.chosen[items], 0.0)
    usual = usual / max(float(np.linalg.norm(usual)), 1e-12)
    return chosen - np.outer(chosen @ usual, usual)


def _table(data: TrainingData, counted: NDArray[np.bool_]) -> csr_matrix:
    """1 where a person has a counted event on an item. [U, N]."""
    where = (data.owners[counted], data.items[counted])
    table = csr_matrix((np.ones(int(counted.sum())), where), shape=(data.num_users, data.num_items))
    table.data[:] = 1.0
    return table


def _unit(table: csr_matrix) -> csr_matrix:
    """Rows of length 1; empty ones stay."""
    lengths = np.sqrt(np.asarray(table.power(2).sum(axis=1)).ravel())
    return (diags(1.0 / np.maximum(lengths, 1.0)) @ table).tocsr()
