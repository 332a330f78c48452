"""State and fast weights → one query a task over the item table."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shared.modeling.config import CHOICES, ModelConfig
from shared.modeling.encoder import COUNT_KNOTS, hat_features
from shared.transitions import FADING

Tensor = Any
# The same at every k: δ is a posterior mean, which grows with the evidence by itself. With its growth taken
# back (γ ∝ 1/√k) fast weights shouted down the state after one event and were too quiet after twenty. Twice
# as strong as first chosen (6), they gave half as much again on development people; 18 gives no more.
GAMMA_AT_START = 12.0


class Heads(keras.layers.Layer):  # type: ignore[misc]
    """q_t = [τ_k · W_t h ; γ_k · δ_t ; σ_k · δ ; κ_k ; ω_k ; 1_t] for what the person will do, [τ_k · W_t h ;
    0 ; δ ; 0 ; 0 ; 1_t] for ratings, whose δ is in stars: τ, γ, σ, κ and ω are scales by task and number of
    shots k, which training chooses.

    σ, of task `like` alone: to like an item is to choose it and to think well of it, and logarithms of
    the one's probability and of the other's given the one add up (after ESMM, Ma et al., 2018, "Entire space
    multi-task model"). 0 until `services.training.ratings` has chosen it.

    κ is of transitions (`shared.transitions`): how much it counts that an item follows what the person has
    done. 0 until `services.training.follow` has chosen it.

    ω is of trends (`shared.trends`): how much it counts that an item is chosen more now than in the long run.
    0 until `services.training.follow` has chosen it; no part of adaptation, as it says the same to everybody.

    Between knots of k the scales are interpolated; γ at k = 0 equals γ at 1, where it means how
    sure the prior is (there is no δ yet). The last number of a rating's δ says how much more than others the
    person goes by what everybody thinks of an item, and joins the 1 of 1_t.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="heads")
        self.config = config
        self.num_tasks = len(config.tasks)
        self.maps = keras.layers.Dense(self.num_tasks * config.dim, use_bias=False, name="maps")

    def build(self, input_shape: Any = None) -> None:
        knots = len(COUNT_KNOTS)
        # Logarithms, so that a step changes a scale by a share of itself.
        self.log_tau = self.add_weight(name="log_tau", shape=(knots, self.num_tasks), initializer="zeros")
        self.log_gamma = self.add_weight(
            name="log_gamma",
            shape=(knots - 1, len(CHOICES)),
            initializer=keras.initializers.Constant(math.log(GAMMA_AT_START)),
        )
        # Chosen on validation people, not learned: training people's own events are in the table.
        self.kappa = self.add_weight(
            name="kappa", shape=(knots - 1, len(CHOICES)), initializer="zeros", trainable=False
        )
        self.omega = self.add_weight(
            name="omega", shape=(knots, len(CHOICES)), initializer="zeros", trainable=False
        )
        if self.num_tasks > len(CHOICES):
            self.sigma = self.add_weight(
                name="sigma", shape=(knots - 1,), initializer="zeros", trainable=False
            )
        # Raw score + offset is what a task's link and loss read.
        self.offsets = self.add_weight(name="offsets", shape=(self.num_tasks,), initializer="zeros")
        self.maps.build((None, self.config.dim))
        self.built = True

    def start_by_passing_on(self) -> None:
        """Starting values by which what the person will do is asked for as what has v like the state, and the
        state says nothing of ratings."""
        eyes = np.tile(np.eye(self.config.dim), (1, self.num_tasks))
        eyes[:, len(CHOICES) * self.config.dim :] = 0.0
        self.maps.kernel.assign(eyes)

    def sequence_queries(self, states: Tensor, shots: Tensor) -> Tensor:
        """τ_k · W_t h. states [..., D], shots [...] → [..., T, D]."""
        shape = tf.concat([tf.shape(states)[:-1], [self.num_tasks, self.config.dim]], axis=0)
        tau = tf.matmul(hat_features(shots, COUNT_KNOTS), tf.exp(self.log_tau.value))
        return tf.reshape(self.maps(states), shape) * tau[..., None]

    def scales(self, shots: Tensor) -> Tensor:
        """γ_k, by choice. shots [B] → [B, 2]."""
        gamma = tf.exp(tf.concat([self.log_gamma.value[:1], self.log_gamma.value], axis=0))
        return tf.matmul(hat_features(shots, COUNT_KNOTS), gamma)

    def transition_scales(self, shots: Tensor) -> Tensor:
        """κ_k, by choice; 0 at k = 0. shots [B] → [B, 2]."""
        kappa = tf.pad(self.kappa.value, [[1, 0], [0, 0]])
        return tf.matmul(hat_features(shots, COUNT_KNOTS), kappa)

    def trend_scales(self, shots: Tensor) -> Tensor:
        """ω_k, by choice. shots [B] → [B, 2]."""
        return tf.matmul(hat_features(shots, COUNT_KNOTS), self.omega.value)

    def star_shares(self, shots: Tensor) -> Tensor:
        """How much of a rating's δ each task asks by: 0 for `next`, σ_k for `like`, 1 for `rating`.
        shots [B] → [B, 3, 1]."""
        sigma = tf.matmul(hat_features(shots, COUNT_KNOTS), tf.pad(self.sigma.value, [[1, 0]])[:, None])
        return tf.stack([tf.zeros_like(sigma), sigma, tf.ones_like(sigma)], axis=1)

    def trail(self, counts: Tensor, mask: Tensor) -> Tensor:
        """What each event counts as one to go out from, exp(−FADING · places from the end), 1 in all; zeros
        where nothing counts.

        counts [B, L]: 0 to 1, of how much a choice each is; mask [B, L]. Returns [B, L].
        """
        places = tf.cumsum(mask, axis=1, exclusive=True, reverse=True)
        weights = counts * mask * tf.exp(-FADING * places)
        return tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=1, keepdims=True))

    def call(
        self, state: Tensor, fast_weights: Tensor, ratings: Tensor, kappa: Tensor, shots: Tensor
    ) -> Tensor:
        """state [B, D], fast_weights of choices [B, 2, A], of ratings [B, R + 2] (unused where the model has
        no such task), kappa [B, 2] (unused where it has no transitions), shots [B] → queries
        [B, T, output_dim]."""
        batch, choices, tasks = tf.shape(state)[0], len(CHOICES), self.num_tasks
        fast = fast_weights * self.scales(shots)[..., None]
        select = tf.broadcast_to(tf.eye(tasks), [batch, tasks, tasks])
        parts = [self.sequence_queries(state, shots), tf.pad(fast, [[0, 0], [0, tasks - choices], [0, 0]])]
        if tasks > choices:
            stars = ratings[:, None, :] * self.star_shares(shots)
            parts.append(stars[..., :-1])
            select += tf.pad(stars[..., -1:], [[0, 0], [0, 0], [choices, 0]])
        if self.config.successors:
            parts.append(tf.pad(kappa, [[0, 0], [0, tasks - choices]])[..., None])
        if self.config.trends:
            parts.append(tf.pad(self.trend_scales(shots), [[0, 0], [0, tasks - choices]])[..., None])
        return tf.concat([*parts, select], axis=-1)
