"""Stateless random numbers: a step's noise is a function of its seed, so a resumed run repeats exactly."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


class Noise:
    """Hands out independent seeds in the order of the calls while a step is traced.

    seed: [2] int32 tensor. `Noise(None)` is silence: no dropout at all.
    """

    def __init__(self, seed: Tensor) -> None:
        self.silent = seed is None
        self._seed = seed
        self._drawn = 0

    def uniform(self, shape: Tensor) -> Tensor:
        """float32 in [0, 1)."""
        self._drawn += 1
        seed = tf.stack([self._seed[0] + self._drawn * 7919, self._seed[1]])
        return tf.random.stateless_uniform(shape, seed, alg="philox")

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """Zeroes a share of x and scales the rest up. The share is exact to 1/256.

        One byte decides an element: random numbers are a large part of a small model's step on a CPU.
        """
        if self.silent or rate == 0.0:
            return x
        self._drawn += 1
        seed = tf.stack([self._seed[0] + self._drawn * 7919, self._seed[1]])
        words = [(tf.size(x) + 3) // 4]
        bits = tf.random.stateless_uniform(words, seed, None, None, tf.uint32, alg="philox")
        octets = tf.reshape(tf.bitcast(bits, tf.uint8), [-1])[: tf.size(x)]
        dropped = max(1, round(rate * 256))
        kept = tf.cast(tf.reshape(octets, tf.shape(x)) >= tf.constant(dropped, tf.uint8), x.dtype)
        return x * kept * (256.0 / (256.0 - dropped))

    def hide(self, x: Tensor, rate: float) -> Tensor:
        """Zeroes whole rows of x without scaling: [B, …] as if the feature were absent."""
        if self.silent or rate == 0.0:
            return x
        kept = self.uniform(tf.stack([tf.shape(x)[0], 1])) >= rate
        return x * tf.cast(kept, x.dtype)


SILENCE = Noise(None)
