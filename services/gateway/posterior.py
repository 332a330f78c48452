"""Draws from the adapter's posterior: what the person's taste may be, given how little is known."""

from __future__ import annotations

import numpy as np

from shared.domain import FloatArray, Uncertainty


def draw(uncertainty: Uncertainty, rng: np.random.Generator) -> FloatArray:
    """One draw of the fast weights' error, from N(0, scale² · (I − FᵀF)). [adapt_dim] float32.

    With F Fᵀ = U S² Uᵀ the square root of I − FᵀF times z is z − Fᵀ U D Uᵀ F z, D = (1 − √(1 − s²)) / s²:
    no matrix of adapt_dim × adapt_dim is ever made.
    """
    factor = uncertainty.factor.astype(np.float64)
    z = rng.standard_normal(factor.shape[1])
    if len(factor):
        squares, basis = np.linalg.eigh(factor @ factor.T)
        squares = np.clip(squares, 0.0, 1.0)
        root = np.sqrt(1.0 - squares)
        shrink = 1.0 / (1.0 + root)  # equals (1 − √(1 − s²)) / s², also at s = 0
        z = z - factor.T @ (basis @ (shrink * (basis.T @ (factor @ z))))
    drawn: FloatArray = np.asarray(uncertainty.scale * z, np.float32)
    return drawn


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
