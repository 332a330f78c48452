"""Odds of scores: what a boost multiplies.

A mix of probabilities lies between bounds: the sums of its negative and of its positive weights. Scores
without bounds are log-odds as they are, up to a constant (raw scores of a softmax, log weights).
"""

from __future__ import annotations

import numpy as np

from shared.domain import FloatArray

Bounds = tuple[float, float]
# Keeps log-odds finite where a float32 probability is 0 or 1.
_SMALLEST = 1e-9


def multiplied(scores: FloatArray, log_factors: FloatArray, bounds: Bounds | None) -> FloatArray:
    """Scores whose odds are multiplied: with p between the bounds, f·p / (1 − p + f·p). [n] float32."""
    if bounds is None:
        return (scores + log_factors).astype(np.float32)
    low, high = bounds
    if high <= low:
        return scores
    p = (scores.astype(np.float64) - low) / (high - low)
    factors = np.exp(log_factors.astype(np.float64))
    changed: FloatArray = (low + (high - low) * factors * p / (1.0 - p + factors * p)).astype(np.float32)
    return np.where(log_factors == 0.0, scores, changed).astype(np.float32)


def log_odds(scores: FloatArray, bounds: Bounds | None) -> FloatArray:
    """log(p / (1 − p)) with p between the bounds. [n] float32."""
    if bounds is None or bounds[1] <= bounds[0]:
        return scores
    p = (scores.astype(np.float64) - bounds[0]) / (bounds[1] - bounds[0])
    p = np.clip(p, _SMALLEST, 1.0 - _SMALLEST)
    return np.log(p / (1.0 - p)).astype(np.float32)
