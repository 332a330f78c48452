"""The ridge adapter against hand-worked numbers and its plain version."""

from __future__ import annotations

import numpy as np
import pytest

from shared.adapters import Support
from shared.adapters.plain import ridge
from shared.domain import Action
from tests.unit.shared.adapters.supports import (
    DIM,
    LENGTH,
    RANK,
    built,
    one_event,
    plain_evidence,
    support,
    weights_of,
)

tf = pytest.importorskip("tensorflow")


def test_one_event_moves_the_weights_along_its_row() -> None:
    """ψ = (2, 0, …), a dislike of y = −1, λ = 1: δ = ψ·y / (ψ·ψ + λ) = (−2/5, 0, …)."""
    found = weights_of(built("ridge", noise=1.0), one_event(2.0, Action.DISLIKE, -1.0))
    np.testing.assert_allclose(found, [[-0.4, 0, 0, 0, 0, 0]] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("action", "label", "next_target", "like_target"),
    [
        (Action.PURCHASE, 1.0, 1.0, 1.0),
        (Action.RATING, 0.2, 0.8, 0.4),  # a rating of 3: 0.75 + 0.25·0.2 and 0.25 + 0.75·0.2
        (Action.DWELL, 0.1, 0.4375, 0.2125),  # half of ρ: 0.375 + 0.625·0.1 and 0.125 + 0.875·0.1
        (Action.DWELL, 0.0, 0.0, 0.0),
        (Action.RATING, -0.6, -0.3, -0.3),  # a rating of 2: half its label
        (Action.SKIP, -0.5, -0.5, -0.5),
        (Action.DISLIKE, -1.0, -1.0, -1.0),
    ],
)
def test_what_was_chosen_pulls_by_more_than_its_label_and_what_was_turned_down_pushes(
    action: Action, label: float, next_target: float, like_target: float
) -> None:
    """λ = 1, ψ = (1, 0, …): δ = y / 2 along ψ."""
    made = built("ridge", noise=1.0, chosen=(0.75, 0.25))
    found = weights_of(made, one_event(1.0, action, label))
    np.testing.assert_allclose(found[:, 0], [next_target / 2, like_target / 2], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, LENGTH])
def test_the_dual_solution_is_the_primal_one(count: int) -> None:
    made, events = built("ridge", noise=0.7), support(count)
    rows, targets, weights, noise = plain_evidence(made, events, count)
    found = weights_of(made, events)
    for task in range(2):
        expected, _ = ridge(rows, targets[:, task], weights, noise)
        np.testing.assert_allclose(found[task], expected, atol=1e-5)


@pytest.mark.parametrize("count", [0, 2, RANK])
def test_the_factor_gives_the_posterior_covariance(count: int) -> None:
    """I − FᵀF = λ(ΨᵀWΨ + λI)⁻¹ where the rank holds all events."""
    made, events = built("ridge"), support(count)
    rows, _, weights, noise = plain_evidence(made, events, count)
    factor = made(events, tf.zeros([1, 3])).factor.numpy()[0].astype(float)
    _, covariance = ridge(rows, np.zeros(count), weights, noise)
    np.testing.assert_allclose(np.eye(DIM) - factor.T @ factor, covariance, atol=1e-5)


def test_a_cut_factor_is_the_posterior_of_the_newest_events() -> None:
    """Eight events in rank 4: the factor of the last four alone, so the cut errs on the wide side."""
    made, events = built("ridge"), support(LENGTH)
    newest = Support(*(np.asarray(x)[:, LENGTH - RANK :] for x in events))
    whole = made(events, tf.zeros([1, 3])).factor.numpy()
    last = made(newest, tf.zeros([1, 3])).factor.numpy()
    np.testing.assert_allclose(whole, last, atol=1e-5)


def test_no_events_give_no_weights_and_the_prior() -> None:
    found = built("ridge")(support(0), tf.zeros([1, 3]))
    assert not found.fast_weights.numpy().any()
    assert not found.factor.numpy().any()
    np.testing.assert_allclose(found.scale.numpy(), [1.0])


def test_padding_changes_nothing() -> None:
    made, events = built("ridge"), support(3)
    short = Support(*(np.asarray(x)[:, LENGTH - 3 :] for x in events))
    for one, other in zip(made(events, tf.zeros([1, 3])), made(short, tf.zeros([1, 3])), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def test_old_events_count_less_than_new_ones() -> None:
    made = built("ridge")
    ages = tf.constant([[86400.0 * 30, 86400.0, 0.0]])
    weights = made.age_weights(ages, tf.ones([1, 3])).numpy()[0]
    assert weights[0] < weights[1] < weights[2] == 1.0
