"""Rating rows by alternating ridge regressions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from shared.modeling.factors import Priors, rating_rows

NO_CONTENT = np.zeros((3, 1), np.float32)


def table(people: int, items: int, seed: int = 0, share: float = 0.5) -> tuple[csr_matrix, np.ndarray]:
    """Stars of a world of one taste (+ or −) with items of three kinds, and the content that says the
    kind."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(items) % 3 - 1.0
    tastes = np.where(np.arange(people) % 2 == 0, 1.0, -1.0)
    stars = np.clip(3.0 + 1.2 * tastes[:, None] * kinds[None, :] + rng.normal(0, 0.3, (people, items)), 1, 5)
    rated = rng.random((people, items)) < share
    content = np.stack([kinds, rng.normal(size=items)], axis=1).astype(np.float32)
    return csr_matrix(np.where(rated, stars, 0.0)), content


def test_biases_by_hand() -> None:
    """One person, items rated 5 and 3 around a mean of 4, factors and levels ridged away: b = ± 1 / (1 +
    1)."""
    stars = csr_matrix(np.array([[5.0, 3.0, 0.0]]))
    found = rating_rows(stars, NO_CONTENT, dim=1, priors=Priors(1e9, 1e9, 1e9, 1.0))
    assert found.mean == 4.0
    np.testing.assert_allclose(found.rows[:2, 1], [0.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(found.rows[:, 0], 0.0, atol=1e-6)


def test_a_persons_level_is_not_an_items_quality() -> None:
    """One gives 5 to everything, one 1: nothing is better than anything."""
    stars = csr_matrix(np.array([[5.0, 5.0, 5.0], [1.0, 1.0, 1.0]]))
    found = rating_rows(stars, NO_CONTENT, dim=1, priors=Priors(1e9, 0.01, 1e9, 1.0))
    np.testing.assert_allclose(found.rows[:, 1], 0.0, atol=1e-3)


def test_items_of_a_kind_get_rows_of_a_kind() -> None:
    stars, content = table(60, 30)
    rows = rating_rows(stars, 0.0 * content, dim=2).rows[:, :2]
    cosines = rows @ rows.T / (np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(rows, axis=1))
    kinds = np.arange(30) % 3
    liked, disliked = kinds == 2, kinds == 0
    assert cosines[np.ix_(liked, liked)].min() > 0.9
    assert cosines[np.ix_(liked, disliked)].max() < -0.9


def test_an_item_that_nobody_has_rated_is_what_its_content_says() -> None:
    stars, content = table(60, 30)
    stars = csr_matrix(stars.toarray() * (np.arange(30) != 2))
    found = rating_rows(stars, content, dim=2)
    np.testing.assert_allclose(found.rows[2], content[2] @ found.kernel + found.constant, atol=1e-5)
    alike, other = found.rows[5, :2], found.rows[3, :2]
    assert found.rows[2, :2] @ alike > 0.0 > found.rows[2, :2] @ other


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_rows_are_finite_and_the_same_each_time(share: float) -> None:
    """People and items without any rating included."""
    stars, content = table(40, 20, share=share)
    one, other = (rating_rows(stars, content, dim=3) for _ in range(2))
    assert np.isfinite(one.rows).all()
    np.testing.assert_array_equal(one.rows, other.rows)
