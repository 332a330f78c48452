"""No adaptation: the encoder alone, as a sequence model reads a new history (SASRec, Kang and McAuley, 2018,
"Self-attentive sequential recommendation"). The arm that every other adapter is compared with."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from shared.adapters.base import NUM_CHOICES, Adapted, Adapter, Support
from shared.adapters.ratings import Ratings

Tensor = Any


class NoAdapter(Adapter):
    """δ = 0, and no uncertainty: fast weights [B, 2, adapt_dim] of choices and [B, R + 2] of ratings, a
    factor [B, rank, adapt_dim] and a scale [B], all of zeros."""

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
