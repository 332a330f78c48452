"""A step of training whose gradients hide each person (DP-SGD; Abadi et al., 2016, "Deep learning with
differential privacy", with people in place of examples as in McMahan et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from services.training.windows import Batch

Tensor = Any
Float64Array = NDArray[np.float64]


class ClippedSum:
    """Σ over people of their gradient, each no longer than `norm`.

    loss: one person's inputs, without the axis of people → their loss, a scalar. Gradients of a batch are
    found side by side and clipped by person, all variables taken together.
    """

    def __init__(
        self, loss: Callable[[Mapping[str, Tensor]], Tensor], variables: Sequence[Any], norm: float
    ) -> None:
        self.size = sum(int(np.prod(v.shape)) for v in variables)
        values = [v.value for v in variables]

        def gradient(person: Mapping[str, Tensor]) -> Tensor:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                found = loss(person)
            parts = tape.gradient(found, values, unconnected_gradients="zero")
            return tf.concat([tf.reshape(tf.convert_to_tensor(p), [-1]) for p in parts], axis=0)

        def total(batch: Mapping[str, Tensor]) -> Tensor:
            batch = dict(batch)
            present = batch.pop("present")
            gradients = tf.vectorized_map(gradient, batch, fallback_to_while_loop=False)
            return clipped(gradients, present, norm)

        self._total = tf.function(total, autograph=False, reduce_retracing=True)

    def __call__(self, batch: Batch) -> Float64Array:
        """Of one batch with `present` [P]. [size] float64."""
        found = self._total({name: tf.constant(column) for name, column in batch.items()})
        return np.asarray(found.numpy(), np.float64)


def clipped(gradients: Tensor, present: Tensor, norm: float) -> Tensor:
    """Σ present_p · g_p · min(1, norm / |g_p|). gradients [P, d]; present [P]. [d].

    Of a person whose gradient is no number nothing is added: else one person could undo the sum.
    """
    finite = tf.reduce_all(tf.math.is_finite(gradients), axis=1)
    gradients = tf.where(finite[:, None], gradients, tf.zeros_like(gradients))
    lengths = tf.norm(gradients, axis=1)
    shares = present * tf.minimum(1.0, tf.math.divide_no_nan(norm, lengths))
    # A gradient of zeros has no length to divide by, and adds nothing.
    return tf.linalg.matvec(gradients, shares, transpose_a=True)


class Adam:
    """Kingma and Ba (2015) on a flat vector; arrays by name for checkpoints."""

    def __init__(self, rates: Float64Array, beta_1: float = 0.9, beta_2: float = 0.98) -> None:
        """rates: [size], of each number."""
        self.rates, self.betas = rates, (beta_1, beta_2)
        size = len(rates)
        self.mean, self.square, self.steps = np.zeros(size), np.zeros(size), 0

    def step(self, gradient: Float64Array) -> Float64Array:
        """What to add to the variables."""
        self.steps += 1
        first, second = self.betas
        self.mean = first * self.mean + (1.0 - first) * gradient
        self.square = second * self.square + (1.0 - second) * gradient**2
        mean = self.mean / (1.0 - first**self.steps)
        square = self.square / (1.0 - second**self.steps)
        found: Float64Array = -self.rates * mean / (np.sqrt(square) + 1e-12)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"adam/mean": self.mean, "adam/square": self.square, "adam/steps": np.array(self.steps)}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.mean, self.square = arrays["adam/mean"], arrays["adam/square"]
        self.steps = int(arrays["adam/steps"])


def add_to(variables: Sequence[Any], change: Float64Array) -> None:
    """Adds a flat vector to variables, in their order."""
    at = 0
    for variable in variables:
        size = int(np.prod(variable.shape))
        part = change[at : at + size].reshape(variable.shape)
        variable.assign(variable.numpy() + part.astype(np.float32))
        at += size
