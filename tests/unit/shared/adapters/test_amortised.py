"""The amortised adapter against hand-worked numbers and its plain version."""

from __future__ import annotations

import numpy as np
import pytest

from shared.adapters import Support
from shared.adapters.plain import signed_mean
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


def test_one_dislike_moves_the_weights_along_its_row() -> None:
    """ψ = (2, 0, …), y = −1, λ = 3, and a network that says nothing yet: δ = −ψ / (3 + 1) = (−½, 0, …)."""
    found = weights_of(built("amortised", noise=3.0), one_event(2.0, Action.DISLIKE, -1.0))
    np.testing.assert_allclose(found, [[-0.5, 0, 0, 0, 0, 0]] * 2, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, LENGTH])
def test_it_is_the_plain_version(count: int) -> None:
    made, events = built("amortised", hidden=5), support(count)
    kernel = np.random.default_rng(3).normal(size=(5, DIM)).astype(np.float32)
    made.bend.kernel.assign(kernel)
    rows, targets, weights, noise = plain_evidence(made, events, count)
    hidden = made.hidden(np.concatenate([rows, targets], axis=1).astype(np.float32)).numpy()
    found = weights_of(made, events)
    for task in range(2):
        expected = signed_mean(rows, hidden.astype(float) @ kernel, targets[:, task], weights, noise)
        np.testing.assert_allclose(found[task], expected, atol=1e-5)


def test_the_order_of_events_counts_by_their_age_alone() -> None:
    """A set, not a sequence: events that changed places with the same weights change nothing."""
    made, events = built("amortised"), support(LENGTH)
    made.decay.assign([-30.0, -30.0])  # no fading
    turned = Support(*(tf.reverse(x, [1]) for x in events))
    np.testing.assert_allclose(weights_of(made, events), weights_of(made, turned), atol=1e-5)


def test_the_network_learns_with_the_rows_and_the_few_numbers_apart() -> None:
    made = built("amortised")
    assert [v.name for v in made.own_variables] == ["noise", "decay"]
    assert len(made.network_variables) == 3


@pytest.mark.parametrize(
    ("hidden", "rule"), [(0, "must be at least 1 and at most 4096"), (2.5, "must be a whole number")]
)
def test_a_width_that_makes_no_sense_is_refused(hidden: float, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rf"adapter_settings\['hidden'\] {rule}"):
        built("amortised", hidden=hidden)
