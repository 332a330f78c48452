"""What a person's ratings say of their other ratings: matrix factorisation's fold-in, in closed form.

A step of alternating least squares for one new person (Zhou et al., 2008, "Large-scale parallel collaborative
filtering for the Netflix prize"), as the posterior mean that probabilistic matrix factorisation makes of it
(Salakhutdinov and Mnih, 2007).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

Tensor = Any
# Chosen on validation people of MovieLens-1M, where training starts from; it fits them to its own.
NOISE, LEVEL, SLOPE = 8.0, 1.6, 1.0


class Ratings(NamedTuple):
    """The ratings among B people's events.

    rows  [B, L, R + 2] float32  [u ; 1 ; b] of the events' items, zeros in padding
    stars [B, L]        float32  less the mean of all ratings and the item's bias b
    mask  [B, L]        float32  1 = rating, 0 = another event or padding
    """

    rows: Tensor
    stars: Tensor
    mask: Tensor


def fold_in(ratings: Ratings, noise: Tensor, level: Tensor, slope: Tensor) -> Tensor:
    """δ = (ΨᵀΨ + λI)⁻¹ Ψᵀy: the posterior mean of δ ~ N(0, s²I) given y = Ψδ + noise of variance λs².

    Ψ has the rows [u ; level · 1 ; slope · b], so that how far people's own means lie apart, and how far they
    go by what everybody thinks, has a size of its own beside that of tastes. Plain version:
    `shared.adapters.plain.ridge`.

    Returns [B, R + 2], weights of [u ; 1 ; b]; zeros for people without ratings.
    """
    width = ratings.rows.shape[-1]
    sizes = tf.concat([tf.ones([width - 2]), tf.stack([level, slope])], axis=0)
    rows = ratings.rows * sizes * ratings.mask[..., None]
    precision = tf.matmul(rows, rows, transpose_a=True) + noise * tf.eye(width)
    evidence = tf.matmul(rows, ratings.stars[..., None], transpose_a=True)
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(precision), evidence)[..., 0] * sizes


class RatingRidge(keras.layers.Layer):  # type: ignore[misc]
    """`fold_in` with three numbers above 0, which validation people choose; training leaves them alone."""

    def __init__(self) -> None:
        super().__init__(name="ratings", trainable=False)

    def build(self, input_shape: Any = None) -> None:
        constant = keras.initializers.Constant
        self.noise = self.add_weight(name="noise", shape=(), initializer=constant(NOISE))
        self.level = self.add_weight(name="level", shape=(), initializer=constant(LEVEL))
        self.slope = self.add_weight(name="slope", shape=(), initializer=constant(SLOPE))
        self.built = True

    def call(self, ratings: Ratings) -> Tensor:
        """[B, R + 2]."""
        return fold_in(ratings, self.noise.value, self.level.value, self.slope.value)
