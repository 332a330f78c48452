"""Signed labels, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shared.context.labels import signed_labels
from shared.domain import Action


def label(action: int, value: float = 0.0) -> float:
    return float(signed_labels(np.array([action], np.int32), np.array([value], np.float32))[0])


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (0, 0.0),  # padding
        (Action.IMPRESSION, 0.0),
        (Action.VIEW, 0.3),
        (Action.CLICK, 0.5),
        (Action.LIKE, 1.0),
        (Action.DISLIKE, -1.0),
        (Action.PURCHASE, 1.0),
        (Action.SKIP, -0.5),
    ],
)
def test_likes_pull_and_dislikes_push(action: int, expected: float) -> None:
    assert label(action) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rating", "expected"),
    [
        (1.0, -1.0),
        (2.0, -0.6),
        (2.5, -0.2),  # halfway from -0.6 to 0.2
        (3.0, 0.2),
        (3.5, 0.5),  # halfway from 0.2 to 0.8
        (4.0, 0.8),
        (5.0, 1.0),
        (9.0, 1.0),  # clamped
        (0.0, -1.0),
    ],
)
def test_low_ratings_push_and_high_ones_pull(rating: float, expected: float) -> None:
    assert label(Action.RATING, rating) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-5.0, 0.0), (0.0, 0.0), (15.0, 0.25), (60.0, 1.0), (600.0, 1.0)]
)
def test_a_minute_of_dwell_is_a_full_positive(seconds: float, expected: float) -> None:
    assert label(Action.DWELL, seconds) == pytest.approx(expected)


def test_the_value_of_other_actions_does_not_matter() -> None:
    assert label(Action.LIKE, 1.0) == label(Action.LIKE, 99.0) == 1.0


def test_labels_keep_shape_and_type() -> None:
    got = signed_labels(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32))
    assert (got.shape, got.dtype) == ((2, 3), np.float32)
