"""No adaptation: the encoder alone. The arm that every other adapter is compared with."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from shared.adapters.base import NUM_CHOICES, Adapted, Adapter, Support
from shared.adapters.ratings import Ratings

Tensor = Any


class NoAdapter(Adapter):
    """Fast weights of zero, and no uncertainty."""

    learns_rows = False

    def __init__(self, *, adapt_dim: int, rank: int) -> None:
        super().__init__(adapt_dim=adapt_dim, rank=rank, name="none")

    def build(self, input_shape: Any = None) -> None:
        self.built = True

    def call(self, support: Support, state: Tensor) -> Adapted:
        batch = tf.shape(support.mask)[0]
        return Adapted(
            tf.zeros([batch, NUM_CHOICES, self.adapt_dim]),
            tf.zeros([batch, self.rank, self.adapt_dim]),
            tf.zeros([batch]),
        )

    def star_weights(self, ratings: Ratings) -> Tensor:
        return tf.zeros(tf.gather(tf.shape(ratings.rows), [0, 2]))
