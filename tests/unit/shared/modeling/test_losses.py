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
