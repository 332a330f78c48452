"""The gradient adapter against hand-worked numbers and its plain version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.adapters import Support
from shared.adapters.plain import descend, ridge
from shared.domain import Action
from shared.errors import InvalidInput
from tests.unit.shared.adapters.supports import (
    DIM,
    LENGTH,
    built,
    one_event,
    plain_evidence,
    support,
    weights_of,
)

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize(
    ("steps", "noise", "expected"),
    [
        # The slope at 0 is ψ(0 − y) = 2, the bound λ + ψ² = 5: δ = −2/5, which is the minimum.
        (1, 1.0, -0.4),
        (2, 1.0, -0.4),
        # λ = 4: slope 2, bound 8, δ = −1/4; the slope there is 2(−½ + 1) + 4·(−¼) = 0: the minimum again.
        (1, 4.0, -0.25),
    ],
)
def test_one_event_is_explained_in_one_step(steps: int, noise: float, expected: float) -> None:
    """ψ = (2, 0, …), disliked."""
    found = weights_of(built("gradient", steps=steps, noise=noise), one_event(2.0, Action.DISLIKE, -1.0))
    np.testing.assert_allclose(found, [[expected, 0, 0, 0, 0, 0]] * 2, atol=1e-6)


@pytest.mark.parametrize("learned_rates", [False, True])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("count", "steps"), [(1, 1), (3, 4), (LENGTH, 7)])
def test_it_is_the_plain_version(count: int, steps: int, first_order: bool, learned_rates: bool) -> None:
    made = built("gradient", steps=steps, first_order=first_order, learned_rates=learned_rates, noise=0.7)
    rates = np.random.default_rng(4).normal(size=made.rate.shape)
    made.rate.assign(rates)
    events = support(count)
    rows, targets, weights, noise = plain_evidence(made, events, count)
    for task, found in enumerate(weights_of(made, events)):
        expected = descend(rows, targets[:, task], weights, noise, 2.0 / (1.0 + np.exp(-rates)), steps)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_many_steps_arrive_at_the_ridge() -> None:
    """Both minimise the same loss."""
    events = support(LENGTH)
    steps = weights_of(built("gradient", steps=50, noise=20.0), events)
    np.testing.assert_allclose(steps, weights_of(built("ridge", noise=20.0), events), atol=1e-4)


def test_no_history_makes_it_diverge() -> None:
    """Twenty times the same long row, at the highest rate: the fast weights stay near the solution."""
    made = built("gradient", steps=50, noise=0.01)
    made.rate.assign(5.0)  # η = 1.987
    rows = np.full((1, 20, DIM), 100.0, np.float32)
    one = np.ones((1, 20), np.float32)
    events = Support(rows, np.full((1, 20), int(Action.LIKE), np.int32), one, one, one)
    expected, _ = ridge(rows[0].astype(float), np.ones(20), np.ones(20), 0.01)
    assert np.abs(weights_of(made, events)).max() < 2 * np.abs(expected).max()


def test_first_order_leaves_out_second_derivatives_alone() -> None:
    """The outer gradient after one step is the same; after several it differs, and both reach the rows."""

    def outer(steps: int, first_order: bool) -> Any:
        made, events = built("gradient", steps=steps, first_order=first_order), support(3)
        with tf.GradientTape() as tape:
            tape.watch(events.rows)
            total = tf.reduce_sum(made(events, tf.zeros([1, 3])).fast_weights ** 2)
        return tape.gradient(total, events.rows).numpy()

    np.testing.assert_allclose(outer(1, True), outer(1, False), atol=1e-6)
    assert np.abs(outer(4, True) - outer(4, False)).max() > 1e-4
    assert np.abs(outer(4, True)).max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, r"adapter_settings\['steps'\] must be at least 1 and at most 50, got 0"),
        ({"steps": 2.5}, r"adapter_settings\['steps'\] must be a whole number, got 2.5"),
        ({"steps": "3"}, r"adapter_settings\['steps'\] must be a finite number, got '3'"),
        ({"first_order": "no"}, r"adapter_settings\['first_order'\] must be true or false, got 'no'"),
        ({"noise": -1.0}, r"adapter_settings\['noise'\] must be above 0, got -1.0"),
        ({"noise": float("nan")}, r"adapter_settings\['noise'\] must be a finite number, got nan"),
        ({"chosen": (0.5,)}, r"adapter_settings\['chosen'\] must be 2 numbers"),
        ({"chosen": (0.5, 1.5)}, r"adapter_settings\['chosen'\] must be at least 0 and at most 1, got 1.5"),
        (
            {"stepz": 3},
            "whose settings are chosen, first_order, learned_rates, noise, scope, steps, got",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        built("gradient", **settings)
