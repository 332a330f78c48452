"""The readable numpy versions of the adapters: one person at a time. The oracles of their tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


def age_weights(ages_s: Float64Array, by_age: float, by_place: float) -> Float64Array:
    """exp(−by_age·log(1 + days since the newest) − by_place·(places from the end)/10). [n], oldest first."""
    days = (ages_s - ages_s.min(initial=np.inf if len(ages_s) else 0.0)) / 86400.0
    places = np.arange(len(ages_s))[::-1]
    weights: Float64Array = np.exp(-by_age * np.log1p(days) - by_place * places / 10.0)
    return weights


def ridge(
    rows: Float64Array, targets: Float64Array, weights: Float64Array, noise: float
) -> tuple[Float64Array, Float64Array]:
    """δ = (ΨᵀWΨ + λI)⁻¹ ΨᵀWy and its posterior covariance in units of the prior's, λ(ΨᵀWΨ + λI)⁻¹.

    rows Ψ [n, A]; targets y [n]; weights w [n]; noise λ. Returns ([A], [A, A]).
    """
    precision = (rows * weights[:, None]).T @ rows + noise * np.eye(rows.shape[1])
    mean = np.linalg.solve(precision, rows.T @ (weights * targets))
    covariance = noise * np.linalg.inv(precision)
    return mean.astype(np.float64), covariance.astype(np.float64)


def descend(
    rows: Float64Array,
    targets: Float64Array,
    weights: Float64Array,
    noise: float,
    rates: Float64Array,
    steps: int,
) -> Float64Array:
    """`steps` gradient steps from 0 down ½ Σ w (Ψδ − y)² + ½ λ‖δ‖², each of rates / a bound of its curvature.

    rows Ψ [n, A]; targets y [n]; weights w [n]; noise λ; rates [A] or one. Returns [A].
    """
    scaled = rows * np.sqrt(weights)[:, None]
    bound = noise + np.abs(scaled @ scaled.T).sum(axis=1).max(initial=0.0)
    delta = np.zeros(rows.shape[1])
    for _ in range(steps):
        slope = sum(
            (w * (row @ delta - y) * row for w, row, y in zip(weights, rows, targets, strict=True)),
            noise * delta,
        )
        delta = delta - rates * slope / bound
    return delta


def signed_mean(
    rows: Float64Array, bends: Float64Array, targets: Float64Array, weights: Float64Array, noise: float
) -> Float64Array:
    """Σ w y (ψ + g) / (λ + Σ w). rows, bends [n, A]; targets, weights [n]. Returns [A]."""
    total = sum(
        (w * y * (row + bend) for w, y, row, bend in zip(weights, targets, rows, bends, strict=True)), 0.0
    )
    mean: Float64Array = np.asarray(total + np.zeros(rows.shape[1])) / (noise + weights.sum())
    return mean
