"""Small things about vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.domain import FloatArray

_TINY = 1e-12


def unit_rows(rows: FloatArray) -> FloatArray:
    """Each row to unit length; rows of zeros stay. [N, width] float32."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > _TINY)
    return scaled


def leading(scores: FloatArray, n: int) -> NDArray[np.int64]:
    """The numbers of the n best of [N] scores and of all that tie for the last place, best first; of equal
    ones the smaller number first. Without sorting all; no NaN."""
    n = min(n, len(scores))
    if n == 0:
        return np.zeros(0, np.int64)
    least = np.partition(scores, len(scores) - n)[len(scores) - n]
    found = np.flatnonzero(scores >= least)
    return found[np.argsort(-scores[found], kind="stable")]
