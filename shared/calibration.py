"""From raw scores to values: a scale, an offset and a link by task and number of shots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.domain import Calibration, FloatArray, Link, TaskInfo


def calibration_at(task: TaskInfo, shots: int) -> tuple[float, float]:
    """(scale, offset) for so many shots: linear in log(1 + shots) between neighbours, level beyond them."""
    if not task.calibration:
        return 1.0, task.offset
    at = math.log1p(shots)
    places = [math.log1p(c.shots) for c in task.calibration]
    scale = np.interp(at, places, [c.scale for c in task.calibration])
    offset = np.interp(at, places, [c.offset for c in task.calibration])
    return float(scale), float(offset)


def task_values(raw: FloatArray, tasks: Sequence[TaskInfo], shots: int) -> FloatArray:
    """link(scale · raw + offset) of each column. raw [n, T] → [n, T] float32.

    With a sigmoid link this is Platt scaling (Platt, 1999). A scale above 0 keeps each task's order. Where
    the link is the identity, values may lie beyond the task's bounds.
    """
    scales, offsets = np.array([calibration_at(task, shots) for task in tasks], np.float32).reshape(-1, 2).T
    values = raw * scales + offsets
    for column, task in enumerate(tasks):
        if task.link is Link.SIGMOID:
            values[:, column] = _sigmoid(values[:, column])
    return values.astype(np.float32)


def shares(values: FloatArray, tasks: Sequence[TaskInfo]) -> FloatArray:
    """What values count as in a mix: each column's share of the way from the task's lower to its upper bound.
    A probability is its own share; of 1 to 5 stars, 4 are 0.75. values [n, T] → [n, T] float32."""
    low, high = np.array([task.bounds for task in tasks], np.float32).reshape(-1, 2).T
    found: FloatArray = ((values - low) / (high - low)).astype(np.float32)
    return found


def within(values: FloatArray, tasks: Sequence[TaskInfo]) -> FloatArray:
    """Values of bounded tasks brought within their bounds, for people to read. [n, T] → [n, T] float32."""
    low, high = (
        np.array([task.bounds if task.is_bounded else (-np.inf, np.inf) for task in tasks], np.float32)
        .reshape(-1, 2)
        .T
    )
    return np.clip(values, low, high).astype(np.float32)


def _sigmoid(x: FloatArray) -> FloatArray:
    """Without overflow at either end."""
    small = np.exp(-np.abs(x))
    positive: FloatArray = np.where(x >= 0.0, 1.0 / (1.0 + small), small / (1.0 + small))
    return positive


def broken_rule(calibration: Sequence[Calibration]) -> str:
    """Words of the rule that it breaks, or ""."""
    shots = [c.shots for c in calibration]
    if shots != sorted(set(shots)) or min(shots, default=0) < 0:
        return "must be by ascending numbers of shots from 0 on"
    if not all(math.isfinite(c.scale) and c.scale > 0.0 and math.isfinite(c.offset) for c in calibration):
        return "must have finite scales above 0 and finite offsets"
    return ""
