"""From raw scores to values."""

from __future__ import annotations

import numpy as np
import pytest

from shared.calibration import broken_rule, calibration_at, shares, task_values, within
from shared.domain import Calibration, Link, TaskInfo

KNOTS = (Calibration(1, 1.0, -2.0), Calibration(3, 3.0, 0.0))


def test_links_come_after_offsets() -> None:
    tasks = (TaskInfo("next", offset=1.0), TaskInfo("like", offset=-2.0, link=Link.SIGMOID))
    values = task_values(np.array([[2.0, 2.0], [0.0, -1000.0], [0.0, 1000.0]], np.float32), tasks, 4)
    # 2 + 1 = 3; σ(2 − 2) = .5; far out nothing overflows.
    np.testing.assert_allclose(values, [[3.0, 0.5], [1.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("shots", "scale", "offset"),
    [
        (0, 1.0, -2.0),
        (1, 1.0, -2.0),
        # log 3 lies halfway from log 2 to log 4 by log(3/2) / log 2.
        (2, 1.0 + 2.0 * np.log2(1.5), -2.0 + 2.0 * np.log2(1.5)),
        (3, 3.0, 0.0),
        (50, 3.0, 0.0),
    ],
)
def test_between_numbers_of_shots_it_is_linear_in_their_logarithm(
    shots: int, scale: float, offset: float
) -> None:
    assert calibration_at(TaskInfo("next", calibration=KNOTS), shots) == pytest.approx((scale, offset))


def test_a_value_by_hand() -> None:
    """At 3 shots: σ(3 · log(2)/3 + 0) = 2/3."""
    task = TaskInfo("next", offset=9.0, link=Link.SIGMOID, calibration=KNOTS)
    raw = np.array([[np.log(2.0) / 3.0]], np.float32)
    assert task_values(raw, (task,), 3)[0, 0] == pytest.approx(2.0 / 3.0)


@pytest.mark.parametrize(
    ("calibration", "rule"),
    [
        ((), ""),
        (KNOTS, ""),
        (KNOTS[::-1], "ascending"),
        ((KNOTS[0], KNOTS[0]), "ascending"),
        ((Calibration(-1),), "from 0 on"),
        ((Calibration(1, 0.0),), "above 0"),
        ((Calibration(1, float("nan")),), "finite"),
        ((Calibration(1, 1.0, float("inf")),), "finite"),
    ],
)
def test_a_broken_calibration_is_named(calibration: tuple[Calibration, ...], rule: str) -> None:
    found = broken_rule(calibration)
    assert (rule in found) if rule else found == ""


STARS = TaskInfo("rating", offset=3.5, bounds=(1.0, 5.0))


def test_in_a_mix_a_value_is_its_share_of_the_scale() -> None:
    """4 of 1 to 5 stars are 3/4, a probability is itself, stars beyond the scale keep their order."""
    tasks = (TaskInfo("like", link=Link.SIGMOID), STARS)
    values = np.array([[0.25, 4.0], [0.5, 5.5]], np.float32)
    np.testing.assert_allclose(shares(values, tasks), [[0.25, 0.75], [0.5, 1.125]])


def test_people_read_values_within_their_bounds() -> None:
    tasks = (TaskInfo("raw"), STARS)
    values = np.array([[7.0, 5.5], [-7.0, 0.5], [np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(within(values, tasks), [[7.0, 5.0], [-7.0, 1.0], [np.nan, np.nan]])
