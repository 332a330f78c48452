"""Budget: what is spent is what the accountant's closed cases say, and the noise found keeps the promise."""

from __future__ import annotations

import math

import dp_accounting
import pytest

from services.training.private.budget import Promise, ledger, scaled_to, spent_epsilon
from services.training.private.config import PrivateConfig
from shared.artifacts import Mechanism

DELTA = 1e-6
PROMISE = Promise(4.0, DELTA)


def test_one_gaussian_spends_what_the_closed_form_says() -> None:
    """Balle and Wang (2018) give ε of one Gaussian mechanism exactly."""
    for noise in (0.8, 2.0, 10.0):
        expected = dp_accounting.get_epsilon_gaussian(noise, DELTA)
        found = spent_epsilon([Mechanism("one", 1.0, noise)], Promise(expected, DELTA))
        assert expected <= found <= 1.01 * expected + 1e-3


def test_gaussians_compose_by_their_inverse_squares() -> None:
    """1/3² + 1/4² = 1/2.4²."""
    both = spent_epsilon([Mechanism("a", 1.0, 3.0), Mechanism("b", 5.0, 4.0)], PROMISE)
    assert both == pytest.approx(dp_accounting.get_epsilon_gaussian(2.4, DELTA), rel=0.01)


def test_a_hundred_steps_of_everybody_are_one_with_a_tenth_of_the_noise() -> None:
    steps = spent_epsilon([Mechanism("steps", 1.0, 20.0, steps=100)], PROMISE)
    assert steps == pytest.approx(dp_accounting.get_epsilon_gaussian(2.0, DELTA), rel=0.02)


def test_taking_part_by_chance_spends_less() -> None:
    whole = spent_epsilon([Mechanism("steps", 1.0, 2.0, 1.0, 50)], PROMISE)
    tenth = spent_epsilon([Mechanism("steps", 1.0, 2.0, 0.1, 50)], PROMISE)
    assert 0.0 < tenth < 0.25 * whole


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 1e-6), (4.0, 1e-6), (10.0, 1e-12), (20.0, 1e-3)])
def test_the_noise_found_keeps_the_promise_and_wastes_next_to_nothing(epsilon: float, delta: float) -> None:
    promise = Promise(epsilon, delta)
    found = scaled_to(promise, PrivateConfig().mechanisms(body=True))
    assert 0.97 * epsilon < spent_epsilon(found, promise) <= epsilon


def test_a_larger_epsilon_gives_less_noise_in_the_same_proportion() -> None:
    wanted = PrivateConfig().mechanisms(body=True)
    strict, loose = (scaled_to(Promise(e, DELTA), wanted) for e in (1.0, 10.0))
    shares = [one.noise_multiplier / other.noise_multiplier for one, other in zip(strict, loose, strict=True)]
    assert min(shares) > 2.0
    assert max(shares) == pytest.approx(min(shares))


def test_the_ledger_names_every_mechanism_and_a_silent_training_has_none() -> None:
    wanted = PrivateConfig().mechanisms(body=True)
    promise = Promise(4.0, DELTA)
    told = ledger(promise, scaled_to(promise, wanted))
    assert told is not None
    assert [m.name for m in told.mechanisms] == ["popularity", "chosen together", "gradients"]
    assert told.epsilon <= 4.0
    assert "dp-accounting" in told.accountant
    silent = scaled_to(Promise(math.inf, DELTA), wanted)
    assert {m.noise_multiplier for m in silent} == {0.0}
    assert ledger(Promise(math.inf, DELTA), silent) is None
