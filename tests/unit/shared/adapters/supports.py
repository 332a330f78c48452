"""Support sets of one person, and what the plain versions want to know of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.adapters import Support, make_adapter
from shared.adapters.plain import age_weights
from shared.domain import Action

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


def one_event(length: float, action: Action, label: float) -> Support:
    """ψ = (length, 0, …), acted on a second ago."""
    rows = np.zeros((1, 1, DIM), np.float32)
    rows[0, 0, 0] = length
    one = np.ones((1, 1), np.float32)
    return Support(rows, np.full((1, 1), int(action), np.int32), label * one, one, one)


def built(name: str, **settings: Any) -> Any:
    made = make_adapter(name, adapt_dim=DIM, rank=RANK, **settings)
    made.build()
    return made


def weights_of(made: Any, events: Support) -> Any:
    """The fast weights. [T, A]."""
    return made(events, tf.zeros([1, 3])).fast_weights.numpy()[0]


def plain_evidence(made: Any, events: Support, count: int) -> tuple[Any, Any, Any, float]:
    """Of the last `count` events rows Ψ [n, A], targets [n, T] and weights [n], and λ, as float64."""
    own = slice(np.shape(events.mask)[1] - count, None)
    rows, ages = (np.asarray(x)[0, own].astype(float) for x in (events.rows, events.ages_s))
    targets = made.targets(events.actions, events.labels).numpy()[0, own].astype(float)
    by_age, by_place = tf.nn.softplus(made.decay.value).numpy().astype(float)
    return rows, targets, age_weights(ages, by_age, by_place), float(tf.nn.softplus(made.noise.value))
