"""The readable numpy version of the ridge adapter: one person, primal form. The oracle of its tests."""

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
