from __future__ import annotations

import numpy as np

from services.gateway.posterior import draw, explore_query
from shared.domain import Uncertainty


def test_draws_have_the_posterior_s_covariance() -> None:
    rng = np.random.default_rng(5)
    factor = rng.normal(size=(3, 5)).astype(np.float32)
    factor *= 0.9 / np.float32(np.linalg.norm(factor, 2))  # all singular values below 1
    uncertainty = Uncertainty(factor, 2.0, 0)
    draws = np.stack([draw(uncertainty, rng) for _ in range(10_000)])
    expected = 4.0 * (np.eye(5) - factor.T @ factor)
    assert np.abs(np.cov(draws.T) - expected).max() < 0.2
    assert np.abs(draws.mean(axis=0)).max() < 0.1


def test_what_is_known_for_sure_is_not_varied() -> None:
    # F = e₁: the variance along the first axis is 2² · (1 − 1) = 0.
    uncertainty = Uncertainty(np.array([[1.0, 0.0, 0.0]], np.float32), 2.0, 0)
    drawn = np.stack([draw(uncertainty, np.random.default_rng(n)) for n in range(100)])
    assert np.abs(drawn[:, 0]).max() < 1e-5
    assert drawn[:, 1].std() > 1.0


def test_without_evidence_the_prior_is_drawn_from() -> None:
    drawn = draw(Uncertainty(np.zeros((0, 4), np.float32), 1.0, 0), np.random.default_rng(0))
    assert drawn.tolist() == np.random.default_rng(0).standard_normal(4).astype(np.float32).tolist()


def test_only_the_fast_weights_of_the_query_vary() -> None:
    mixed = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    uncertainty = Uncertainty(np.zeros((1, 2), np.float32), 1.0, 1)
    # Two tasks of weights 3 and 4: the mix's error is √(9 + 16) = 5 times one draw.
    query = explore_query(mixed, np.array([3.0, 4.0], np.float32), uncertainty, np.random.default_rng(1))
    error = draw(uncertainty, np.random.default_rng(1))
    assert query[[0, 3]].tolist() == [1.0, 4.0]
    np.testing.assert_allclose(query[1:3], mixed[1:3] + 5 * error, rtol=1e-6)
    assert mixed.tolist() == [1.0, 2.0, 3.0, 4.0]
