"""The amortised adapter against hand-worked numbers and its plain version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.adapters import Support, make_adapter
from shared.adapters.plain import age_weights, signed_mean
from shared.domain import Action
from shared.errors import InvalidInput
from tests.unit.shared.adapters.supports import DIM, LENGTH, RANK, support

tf = pytest.importorskip("tensorflow")


def adapter(**settings: Any) -> Any:
    made = make_adapter("amortised", adapt_dim=DIM, rank=RANK, **settings)
    made.build()
    return made


def test_one_dislike_moves_the_weights_along_its_row() -> None:
    """ψ = (2, 0, …), y = −1, λ = 3, and a network that says nothing yet: δ = −ψ / (3 + 1) = (−½, 0, …)."""
    rows = np.zeros((1, 1, DIM), np.float32)
    rows[0, 0, 0] = 2.0
    one = np.ones((1, 1), np.float32)
    disliked = np.full((1, 1), int(Action.DISLIKE), np.int32)
    found = adapter(noise=3.0)(Support(rows, disliked, -one, one, one), tf.zeros([1, 3])).fast_weights
    np.testing.assert_allclose(found.numpy()[0], [[-0.5, 0, 0, 0, 0, 0]] * 2, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, LENGTH])
def test_it_is_the_plain_version(count: int) -> None:
    made, events, own = adapter(hidden=5), support(count), slice(LENGTH - count, None)
    kernel = np.random.default_rng(3).normal(size=(5, DIM)).astype(np.float32)
    made.bend.kernel.assign(kernel)
    rows, ages = (np.asarray(x)[0, own].astype(float) for x in (events.rows, events.ages_s))
    targets = made.targets(events.actions, events.labels).numpy()[0, own].astype(float)
    weights = age_weights(ages, *tf.nn.softplus(made.decay.value).numpy().astype(float))
    hidden = made.hidden(np.concatenate([rows, targets], axis=1).astype(np.float32)).numpy()
    noise = float(tf.nn.softplus(made.noise.value))
    found = made(events, tf.zeros([1, 3])).fast_weights.numpy()[0]
    for task in range(2):
        expected = signed_mean(rows, hidden.astype(float) @ kernel, targets[:, task], weights, noise)
        np.testing.assert_allclose(found[task], expected, atol=1e-5)


def test_the_order_of_events_counts_by_their_age_alone() -> None:
    """A set, not a sequence: events that changed places with the same weights change nothing."""
    made, events = adapter(), support(LENGTH)
    made.decay.assign([-30.0, -30.0])  # no fading
    turned = Support(*(tf.reverse(x, [1]) for x in events))
    one, other = (made(given, tf.zeros([1, 3])).fast_weights.numpy() for given in (events, turned))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_network_learns_with_the_rows_and_the_few_numbers_apart() -> None:
    made = adapter()
    assert [v.name for v in made.own_variables] == ["noise", "decay"]
    assert len(made.network_variables) == 3


def test_a_width_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"adapter_settings\['hidden'\] must be at least 1"):
        adapter(hidden=0)
