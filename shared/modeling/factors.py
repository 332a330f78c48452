"""Rating rows from the data: matrix factorisation by alternating ridge regressions, with what content says as
an item's prior (after Koren, Bell and Volinsky, 2009, "Matrix Factorization Techniques for Recommender
Systems", and Agarwal and Chen, 2009, "Regression-based Latent Factor Models").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shared.domain import FloatArray

Float64Array = NDArray[np.float64]
_SWEEPS = 10
# Pseudo-ratings behind what content says of an item, of a hundredth of its influence.
_CONTENT_PRIOR = 300.0
_ITEM_PRIOR_RATINGS = 5.0


@dataclass(frozen=True, slots=True)
class Priors:
    """Ridge of people's and items' factors, of people's levels and items' biases, in ratings' noise
    variances.

    Chosen on validation people of MovieLens-1M, items of whose latest years were left out.
    """

    taste: float = 6.0
    level: float = 3.0
    factors: float = 10.0
    bias: float = 5.0


class RatingRows(NamedTuple):
    """rows [N, dim + 1], [u ; bias] of each item, that of its content where nobody has rated it;
    kernel [content_rank, dim + 1] and constant [dim + 1], which make them from projected content;
    mean: of all ratings. float32."""

    rows: FloatArray
    kernel: FloatArray
    constant: FloatArray
    mean: float


def rating_rows(
    ratings: csr_matrix,
    content: FloatArray,
    *,
    dim: int,
    priors: Priors = Priors(),
    seed: int = 0,
) -> RatingRows:
    """stars(person, item) ≈ mean + b_i + p · u_i + level, least squares with ridge.

    ratings: [people, N], stars, at least one; content: [N, content_rank], projected (see `initial`). Each
    item's [u ; b] is shrunk towards a linear map of its content, which is fitted to all items in turn.
    """
    stars = ratings.astype(np.float64)
    mean = float(stars.data.mean())
    stars.data -= mean
    by_item = stars.T.tocsr()
    counts = np.diff(by_item.indptr)
    rng = np.random.default_rng(seed)
    items = np.concatenate(
        [0.1 * rng.normal(size=(stars.shape[1], dim)), np.zeros((stars.shape[1], 1))], axis=1
    )
    nobody, prior = np.zeros((stars.shape[0], dim + 1)), np.zeros_like(items)
    fit = _ContentFit.of(content, counts)
    people_ridge = np.array([priors.taste] * dim + [priors.level])
    item_ridge = np.array([priors.factors] * dim + [priors.bias])
    for _ in range(_SWEEPS):
        people = _solve(stars, _with(items[:, :dim], 1.0), items[:, dim], people_ridge, nobody)
        items = _solve(by_item, _with(people[:, :dim], 1.0), people[:, dim], item_ridge, prior)
        kernel, constant = fit(items)
        prior = content @ kernel + constant
    items[counts == 0] = prior[counts == 0]  # with the latest kernel
    return RatingRows(items.astype(np.float32), kernel.astype(np.float32), constant.astype(np.float32), mean)


def _solve(
    stars: csr_matrix, others: Float64Array, known: Float64Array, ridge: Float64Array, prior: Float64Array
) -> Float64Array:
    """For each row of stars the x that minimises Σ (star − known_j − x·others_j)² + ridge·(x − prior)².

    stars [n, m]; others [m, K]; known [m]; ridge [K]; prior [n, K], which rows without stars keep. Returns
    [n, K].
    """
    found = prior.copy()
    for row, (start, end) in enumerate(pairwise(stars.indptr.tolist())):
        if start < end:
            columns = stars.indices[start:end]
            factors = others[columns]
            precision = factors.T @ factors
            precision[np.diag_indices_from(precision)] += ridge
            evidence = factors.T @ (stars.data[start:end] - known[columns]) + ridge * prior[row]
            found[row] = np.linalg.solve(precision, evidence)
    return found


def _with(factors: Float64Array, constant: float) -> Float64Array:
    return np.concatenate([factors, np.full((len(factors), 1), constant)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class _ContentFit:
    """Ridge regression of items' rows on their content, items weighted by how well their rows are known."""

    weighted: Float64Array
    precision: Float64Array

    @classmethod
    def of(cls, content: FloatArray, counts: NDArray[np.int32]) -> _ContentFit:
        inputs = _with(content.astype(np.float64), 1.0)
        weighted = inputs * (counts / (counts + _ITEM_PRIOR_RATINGS))[:, None]
        ridge = np.diag([_CONTENT_PRIOR] * content.shape[1] + [1e-6])
        return cls(weighted, inputs.T @ weighted + ridge)

    def __call__(self, items: Float64Array) -> tuple[Float64Array, Float64Array]:
        """(kernel, constant)."""
        solved = np.asarray(np.linalg.solve(self.precision, self.weighted.T @ items), np.float64)
        return solved[:-1], solved[-1]
