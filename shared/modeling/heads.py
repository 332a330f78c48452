"""State and fast weights → one query a task over the item table."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shared.modeling.config import TASKS, ModelConfig
from shared.modeling.encoder import COUNT_KNOTS, hat_features

Tensor = Any
# The same at every k: δ is a posterior mean, which grows with the evidence by itself. With its growth taken
# back (γ ∝ 1/√k) fast weights shouted down the state after one event and were too quiet after twenty. Twice
# as strong as first chosen (6), they gave half as much again on development people; 18 gives no more.
GAMMA_AT_START = 12.0


class Heads(keras.layers.Layer):  # type: ignore[misc]
    """q_t = [τ_k · W_t h ; γ_k · δ_t ; 1_t]: τ and γ are scales by task and number of shots k, which
    training chooses.

    Between knots of k the scales are interpolated; γ at k = 0 equals γ at 1, where it means how
    sure the prior is (there is no δ yet).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="heads")
        self.config = config
        self.maps = keras.layers.Dense(len(TASKS) * config.dim, use_bias=False, name="maps")

    def build(self, input_shape: Any = None) -> None:
        shape = (len(COUNT_KNOTS), len(TASKS))
        # Logarithms, so that a step changes a scale by a share of itself.
        self.log_tau = self.add_weight(name="log_tau", shape=shape, initializer="zeros")
        self.log_gamma = self.add_weight(
            name="log_gamma",
            shape=(shape[0] - 1, shape[1]),
            initializer=keras.initializers.Constant(math.log(GAMMA_AT_START)),
        )
        self.maps.build((None, self.config.dim))
        self.built = True

    def start_by_passing_on(self) -> None:
        """Starting values by which every task asks for items whose v is like the state."""
        self.maps.kernel.assign(np.tile(np.eye(self.config.dim), (1, len(TASKS))))

    def sequence_queries(self, states: Tensor, shots: Tensor) -> Tensor:
        """τ_k · W_t h. states [..., D], shots [...] → [..., T, D]."""
        shape = tf.concat([tf.shape(states)[:-1], [len(TASKS), self.config.dim]], axis=0)
        tau = tf.matmul(hat_features(shots, COUNT_KNOTS), tf.exp(self.log_tau.value))
        return tf.reshape(self.maps(states), shape) * tau[..., None]

    def scales(self, shots: Tensor) -> Tensor:
        """γ_k, by task. shots [B] → [B, T]."""
        gamma = tf.exp(tf.concat([self.log_gamma.value[:1], self.log_gamma.value], axis=0))
        return tf.matmul(hat_features(shots, COUNT_KNOTS), gamma)

    def call(self, state: Tensor, fast_weights: Tensor, shots: Tensor) -> Tensor:
        """state [B, D], fast_weights [B, T, A], shots [B] → queries [B, T, output_dim]."""
        sequence = self.sequence_queries(state, shots)
        fast = fast_weights * self.scales(shots)[..., None]
        select = tf.broadcast_to(tf.eye(len(TASKS)), [tf.shape(state)[0], len(TASKS), len(TASKS)])
        return tf.concat([sequence, fast, select], axis=-1)
