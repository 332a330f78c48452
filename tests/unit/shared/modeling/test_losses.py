"""The chunked loss equals the plain one, in value and in gradients, whatever the chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_neither_loss_nor_gradients(chunk: int) -> None:
    from shared.modeling.losses import catalogue_loss, softmax_loss

    rng = np.random.default_rng(0)
    queries, values = rng.normal(size=(7, 4)).astype(np.float32), rng.normal(size=(11, 4)).astype(np.float32)
    biases = rng.normal(size=11).astype(np.float32)
    targets = tf.constant(rng.integers(0, 11, 7), tf.int32)
    weights = tf.constant([1.0, 0.0, 2.0, 1.0, 0.5, 0.0, 1.0])

    def plain(q: Any, v: Any, b: Any) -> Any:
        return softmax_loss(tf.matmul(q, v, transpose_b=True) + b, targets, weights)

    def chunked(q: Any, v: Any, b: Any) -> Any:
        return 3.0 * catalogue_loss(q, v, b, targets, weights, chunk=chunk) / 3.0

    (one, gradients), (other, others) = (
        _with_gradients(loss, queries, values, biases) for loss in (plain, chunked)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for gradient, same in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient, same, atol=1e-6)


def test_without_any_weight_there_is_neither_loss_nor_gradient() -> None:
    from shared.modeling.losses import catalogue_loss

    def loss(q: Any, v: Any, b: Any) -> Any:
        return catalogue_loss(q, v, b, tf.constant([0, 1]), tf.zeros(2))

    value, gradients = _with_gradients(
        loss, np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.zeros(4, np.float32)
    )
    assert value == 0.0
    assert not any(np.any(g) for g in gradients)


def _with_gradients(loss: Any, *arrays: Array) -> tuple[float, list[Array]]:
    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = loss(*tensors)
    return float(value), [g.numpy() for g in tape.gradient(value, tensors)]


def test_the_sigmoid_loss_by_hand() -> None:
    """p = (3/4, 1/2, 1/2), the first happened: −log 3/4 − 2 log 1/2, for one target."""
    from shared.modeling.losses import sigmoid_loss

    logits = tf.constant([[np.log(3.0), 0.0, 0.0]], tf.float32)
    found = sigmoid_loss(logits, tf.constant([[0, 0]]), tf.constant([[1.0, 0.0]]), tf.ones([1, 3]))
    assert float(found) == pytest.approx(np.log(4 / 3) + 2 * np.log(2), abs=1e-6)


def test_a_sampled_item_counts_in_the_sigmoid_loss_for_all_that_it_stands_for() -> None:
    """One of ten drawn counts ten times; one that is out does not count."""
    from shared.modeling.losses import sigmoid_loss

    def loss(logits: list[float], copies: list[float]) -> float:
        targets, weights = tf.constant([[0]]), tf.ones([1, 1])
        return float(sigmoid_loss(tf.constant([logits]), targets, weights, tf.constant([copies])))

    assert loss([1.0, 0.5], [1.0, 10.0]) == pytest.approx(loss([1.0] + [0.5] * 10, [1.0] * 11), rel=1e-6)
    assert loss([1.0, 0.5, 9.0], [1.0, 1.0, 0.0]) == pytest.approx(loss([1.0, 0.5], [1.0, 1.0]), rel=1e-6)


def test_the_squared_loss_by_hand() -> None:
    """Errors 1 and 2, the third weighs nothing: (1 + 4) / 2; nothing at all costs nothing."""
    from shared.modeling.losses import squared_loss

    values, targets = tf.constant([4.0, 1.0, 9.0]), tf.constant([3.0, 3.0, 3.0])
    assert float(squared_loss(values, targets, tf.constant([1.0, 1.0, 0.0]))) == 2.5
    assert float(squared_loss(values, targets, tf.zeros([3]))) == 0.0
