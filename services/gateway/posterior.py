"""Draws from the adapter's posterior: what the person's taste may be, given how little is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.domain import FloatArray, Uncertainty


def draw(uncertainty: Uncertainty, rng: np.random.Generator) -> FloatArray:
    """One draw of the fast weights' error, from N(0, scale² · (I − FᵀF)). [adapt_dim] float32.

    With z and w standard normal, x = z − Fᵀ(F z + M w), M Mᵀ = I − F Fᵀ, has that covariance:
    I − 2 FᵀF + Fᵀ(F Fᵀ + M Mᵀ)F = I − FᵀF. No matrix of adapt_dim × adapt_dim is ever made, and a Cholesky
    decomposition of rank × rank is all the algebra (Matheron's rule; J. T. Wilson et al., 2020, "Efficiently
    Sampling Functions from Gaussian Process Posteriors").
    """
    factor = uncertainty.factor.astype(np.float64)
    z: NDArray[np.float64] = rng.standard_normal((factor.shape[1],))
    if len(factor):
        w = rng.standard_normal((len(factor),))
        z = z - factor.T @ (factor @ z + _root(np.eye(len(factor)) - factor @ factor.T) @ w)
    drawn: FloatArray = np.asarray(uncertainty.scale * z, np.float32)
    return drawn


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """M with M Mᵀ = matrix, which is symmetric and, but for rounding, has no negative eigenvalue."""
    try:
        return np.asarray(np.linalg.cholesky(matrix), np.float64)
    except np.linalg.LinAlgError:
        # Something is known for sure: an eigenvalue is 0, or a hair below. Slower, but exact there too.
        values, basis = np.linalg.eigh(matrix)
        return np.asarray(basis * np.sqrt(np.clip(values, 0.0, None)), np.float64)


def explore_query(
    mixed: FloatArray, weights: FloatArray, uncertainty: Uncertainty, rng: np.random.Generator
) -> FloatArray:
    """The mixed query with each task's fast weights drawn from the posterior (Thompson, 1933; Chapelle & Li,
    2011, "An Empirical Evaluation of Thompson Sampling"). [output_dim] float32.

    Independent errors of variance v in each of the tasks add up to variance Σ w² · v in their mix.
    """
    error = draw(uncertainty, rng) * np.float32(np.sqrt(np.sum(weights.astype(np.float64) ** 2)))
    query = mixed.copy()
    query[uncertainty.offset : uncertainty.offset + len(error)] += error
    return query
