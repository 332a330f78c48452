"""Small things about vectors."""

from __future__ import annotations

import numpy as np

from shared.vectors import unit_rows


def test_unit_rows_leaves_zeros() -> None:
    np.testing.assert_allclose(unit_rows(np.array([[0.0, 0.0], [0.0, -2.0]], np.float32)), [[0, 0], [0, -1]])
