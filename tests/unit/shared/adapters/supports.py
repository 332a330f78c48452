"""Random support sets of one person."""

from __future__ import annotations

import numpy as np
import pytest

from shared.adapters import Support

tf = pytest.importorskip("tensorflow")

DIM, RANK, LENGTH = 6, 4, 8


def support(count: int, length: int = LENGTH, seed: int = 0) -> Support:
    """`count` random events in `length` places."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((1, length), np.float32)
    mask[0, length - count :] = 1.0
    rows = np.zeros((1, length, DIM), np.float32)
    rows[0, length - count :] = rng.normal(size=(count, DIM))
    actions = np.zeros((1, length), np.int32)
    actions[0, length - count :] = rng.integers(2, 10, size=count)
    labels = np.zeros((1, length), np.float32)
    labels[0, length - count :] = rng.uniform(-1, 1, size=count)
    ages = np.zeros((1, length), np.float32)
    ages[0, length - count :] = np.sort(rng.uniform(10, 9e5, size=count))[::-1]
    return Support(*(tf.constant(x) for x in (rows, actions, labels, ages, mask)))
