"""Small things about vectors."""

from __future__ import annotations

import numpy as np

from shared.domain import FloatArray

_TINY = 1e-12


def unit_rows(rows: FloatArray) -> FloatArray:
    """Each row to unit length; rows of zeros stay. [N, width] float32."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > _TINY)
    return scaled
