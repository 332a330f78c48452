"""The fold-in of ratings against hand-worked numbers and the plain ridge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.adapters.plain import ridge

tf = pytest.importorskip("tensorflow")
from shared.adapters.ratings import Ratings, fold_in  # noqa: E402 (needs TensorFlow)


def ratings(*rows: list[float], stars: list[float]) -> Ratings:
    """One person's."""
    table = np.array([rows], np.float32)
    return Ratings(tf.constant(table), tf.constant([stars]), tf.ones([1, len(stars)]))


def numbers(noise: float, level: float, slope: float) -> tuple[Any, ...]:
    return tuple(tf.constant(x) for x in (noise, level, slope))


def test_two_ratings_of_a_star_above_make_a_level() -> None:
    """λ = 1, level 1, nothing else to go by: (1 + 1) / (2 + 1) = 2/3."""
    found = fold_in(ratings([0.0, 1.0, 0.0], [0.0, 1.0, 0.0], stars=[1.0, 1.0]), *numbers(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found.numpy(), [[0.0, 2 / 3, 0.0]], atol=1e-6)


def test_sizes_stand_for_how_far_people_differ() -> None:
    """The level counts twice: Ψ = 2, δ = 2·1 / (4 + 1), and the weight of the row's own 1 is 2δ = 4/5."""
    found = fold_in(ratings([0.0, 1.0, 0.0], stars=[1.0]), *numbers(1.0, 2.0, 1.0))
    np.testing.assert_allclose(found.numpy(), [[0.0, 0.8, 0.0]], atol=1e-6)


def test_one_who_gives_good_items_more_and_bad_ones_less_has_a_slope() -> None:
    found = fold_in(ratings([0.0, 1.0, 1.0], [0.0, 1.0, -1.0], stars=[0.5, -0.5]), *numbers(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found.numpy(), [[0.0, 0.0, 1 / 3]], atol=1e-6)


def test_it_is_the_plain_ridge_on_scaled_rows() -> None:
    rng = np.random.default_rng(0)
    rows, stars = rng.normal(size=(6, 5)), rng.normal(size=6)
    sizes = np.array([1.0, 1.0, 1.0, 1.5, 0.5])
    expected, _ = ridge(rows * sizes, stars, np.ones(6), 0.7)
    found = fold_in(ratings(*rows.tolist(), stars=stars.tolist()), *numbers(0.7, 1.5, 0.5))
    np.testing.assert_allclose(found.numpy()[0], expected * sizes, atol=1e-5)


def test_other_events_and_padding_say_nothing() -> None:
    some = ratings([0.3, 1.0, 0.2], stars=[1.0])
    more = Ratings(
        tf.concat([tf.ones([1, 2, 3]), some.rows], axis=1),
        tf.constant([[0.0, 0.0, 1.0]]),
        tf.constant([[0.0, 0.0, 1.0]]),
    )
    one, other = (fold_in(given, *numbers(1.0, 1.0, 1.0)).numpy() for given in (some, more))
    np.testing.assert_allclose(one, other, atol=1e-6)
