"""Gradients: each person's is clipped by itself, and the sum is the plain one of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.training.private.gradients import Adam, ClippedSum, add_to, clipped

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


def plain_sum(gradients: np.ndarray, norm: float) -> np.ndarray:
    """What `clipped` must give where everybody is present."""
    total = np.zeros(gradients.shape[1])
    for one in gradients:
        total += one * min(1.0, norm / max(float(np.linalg.norm(one)), 1e-30))
    return total


def test_a_long_gradient_is_shortened_and_a_short_one_stays() -> None:
    """(3, 4) is 5 long → (.6, .8); (.3, .4) is a half long; of who is not there nothing."""
    gradients = tf.constant([[3.0, 4.0], [0.3, 0.4], [9.0, 9.0], [0.0, 0.0]])
    found = clipped(gradients, tf.constant([1.0, 1.0, 0.0, 1.0]), 1.0)
    np.testing.assert_allclose(found, [0.9, 1.2], rtol=1e-6)


def test_the_sum_is_the_plain_one() -> None:
    gradients = np.random.default_rng(0).normal(0.0, 2.0, (50, 7)).astype(np.float32)
    found = clipped(tf.constant(gradients), tf.ones(50), 1.5)
    np.testing.assert_allclose(found, plain_sum(gradients, 1.5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_no_number_adds_nothing(bad: float) -> None:
    found = clipped(tf.constant([[bad, 1.0], [0.3, 0.4]]), tf.ones(2), 1.0)
    np.testing.assert_allclose(found, [0.3, 0.4], rtol=1e-6)


def squares() -> tuple[list[Any], ClippedSum]:
    """Loss ½|w − x|² + ½(b − y)²: the gradient of a person is (w − x, b − y)."""
    layer = keras.layers.Layer()
    w = layer.add_weight(name="w", shape=(2,), initializer="zeros")
    b = layer.add_weight(name="b", shape=(), initializer="zeros")
    loss = lambda person: (  # noqa: E731
        0.5 * tf.reduce_sum((w.value - person["x"]) ** 2) + 0.5 * (b.value - person["y"]) ** 2
    )
    return [w, b], ClippedSum(loss, [w, b], 1.0)


def test_all_variables_of_a_person_are_clipped_together_and_people_apart() -> None:
    """(−2, −2, −1) is 3 long → thirds; (0, 0, −.5) stays."""
    _, total = squares()
    x, y = np.array([[2.0, 2.0], [0.0, 0.0], [7.0, 7.0]], np.float32), np.array([1.0, 0.5, 7.0], np.float32)
    found = total({"x": x, "y": y, "present": np.array([1, 1, 0], np.float32)})
    np.testing.assert_allclose(found, [-2 / 3, -2 / 3, -1 / 3 - 0.5], rtol=1e-6)


def test_one_person_more_moves_the_sum_by_their_clipped_gradient_and_no_further() -> None:
    """The canary: whatever the one more does, and whoever else is there."""
    _, total = squares()
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 100, (6, 2)).astype(np.float32), rng.normal(0, 100, 6).astype(np.float32)
    everybody = total({"x": x, "y": y, "present": np.ones(6, np.float32)})
    for person in range(6):
        present = (np.arange(6) != person).astype(np.float32)
        fewer = total({"x": x, "y": y, "present": present})
        assert np.linalg.norm(everybody - fewer) <= 1.0 + 1e-5


def test_adam_goes_against_the_gradient_by_its_rate_at_first() -> None:
    """The first step is rate · sign, the second by hand: m = .9·.1·1 + .1·3 over .19, v = .98·.02·1 + .02·9
    over .0396."""
    adam = Adam(np.array([0.1, 0.2]))
    np.testing.assert_allclose(adam.step(np.array([1.0, -4.0])), [-0.1, 0.2])
    expected = -0.1 * (0.39 / 0.19) / np.sqrt(0.1996 / 0.0396)
    assert adam.step(np.array([3.0, 0.0]))[0] == pytest.approx(expected)
    other = Adam(np.array([0.1, 0.2]))
    other.load(adam.arrays())
    np.testing.assert_array_equal(other.step(np.ones(2)), adam.step(np.ones(2)))


def test_changes_are_added_in_the_order_of_the_variables() -> None:
    variables, _ = squares()
    add_to(variables, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(variables[0].numpy(), [1.0, 2.0])
    assert variables[1].numpy() == 3.0
