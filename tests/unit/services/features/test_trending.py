"""Sums of decayed weights as logarithms."""

from __future__ import annotations

import math

import pytest

from services.features.store.trending import log2_sum


def test_logarithms_add_as_their_numbers_do() -> None:
    assert log2_sum(3.0, 3.0) == 4.0  # 8 + 8 = 16
    assert log2_sum(5.0, 4.0) == pytest.approx(math.log2(48.0))


@pytest.mark.parametrize(("large", "small"), [(1e6, 0.0), (1e6, 1e6), (5000.0, -5000.0)])
def test_numbers_far_beyond_floats_stay_finite_and_in_order(large: float, small: float) -> None:
    assert large <= log2_sum(large, small) <= large + 1.0
    assert log2_sum(large, small) == log2_sum(small, large)
