"""The item tower: id embedding (or its absence) and content embedding → the item's three rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from shared.modeling.config import ModelConfig

Tensor = Any


class ItemRows(NamedTuple):
    """input [N, input_dim] e; support [N, support_dim] [ψ ; u ; 1 ; bias of ratings]; output [N, output_dim]
    x = [v ; φ ; u ; 1 ; 0 ; 0 ; b]. Without the task `rating` there is no u, no 1 and no bias of ratings. The
    zeros are places of transitions and of trends, where the model has them: scoring fills them in."""

    input: Tensor
    support: Tensor
    output: Tensor


class ItemTower(keras.layers.Layer):  # type: ignore[misc]
    """row = present · id + (1 − present) · absence + MLP(content), for ratings' part a linear map of content.

    An id embedding holds the item's own share of all rows, on top of what its content says, so
    that an item without one is an ordinary item of its kind. Training hides the id of some items
    at each step (id dropout, as in DropoutNet, Volkovs et al. 2017), which teaches the content
    network and the absence vector to stand in for it. Ratings' part is found in closed form
    (`shared.modeling.factors`), not trained.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="item_tower")
        self.config = config
        self.hidden = keras.layers.Dense(config.content_hidden, activation="gelu", name="hidden")
        rating = config.row_dims.get("r", 0)
        self.out = keras.layers.Dense(
            config.id_dim - rating, use_bias=False, name="out", kernel_initializer=_small()
        )
        if rating:
            self.ratings = keras.layers.Dense(
                rating, name="ratings", kernel_initializer="zeros", trainable=False
            )

    def build(self, input_shape: Any = None) -> None:
        config = self.config
        self.absence = self.add_weight(name="absence", shape=(config.id_dim,), initializer="zeros")
        # Fixed, from the catalogue's content: see `initial.content_projection`.
        self.centre = self.add_weight(
            name="centre", shape=(config.content_dim,), initializer="zeros", trainable=False
        )
        self.projection = self.add_weight(
            name="projection", shape=(config.content_dim, config.content_rank), trainable=False
        )
        self.hidden.build((None, config.content_rank))
        self.out.build((None, config.content_hidden))
        if config.rating_dim:
            self.ratings.build((None, config.content_rank))
        self.built = True

    def project(self, content: Tensor) -> Tensor:
        """Centred and reduced content, zeros for items without any. [N, content_dim] → [N, content_rank]."""
        some = tf.cast(tf.reduce_any(tf.not_equal(content, 0.0), axis=1, keepdims=True), tf.float32)
        return tf.matmul((content - self.centre.value) * some, self.projection.value)

    def content_rows(self, projected: Tensor) -> Tensor:
        """What content alone says of all rows. [N, content_rank] → [N, id_dim]."""
        rows = self.out(self.hidden(projected))
        if not self.config.rating_dim:
            return rows
        return tf.concat([rows, self.ratings(projected)], axis=1)

    def call(self, id_rows: Tensor, id_present: Tensor, content: Tensor) -> ItemRows:
        """id_rows [N, id_dim]; id_present [N], 1 or 0; content [N, content_dim], zeros = none."""
        return self.fuse(id_rows, id_present, self.content_rows(self.project(content)))

    def fuse(self, id_rows: Tensor, id_present: Tensor, content_rows: Tensor) -> ItemRows:
        """The same where the content's share [N, id_dim] is at hand."""
        present = id_present[:, None]
        return self.split(present * id_rows + (1.0 - present) * self.absence + content_rows)

    def split(self, rows: Tensor) -> ItemRows:
        """[N, id_dim] → the three rows."""
        dims = self.config.row_dims
        part = dict(zip(dims, tf.split(rows, list(dims.values()), axis=1), strict=True))
        taste = [part["v"], part["phi"]]
        place = [tf.zeros_like(part["b"][:, :1])] * (self.config.transition_width + self.config.trend_width)
        if not self.config.rating_dim:
            return ItemRows(part["e"], part["psi"], tf.concat([*taste, *place, part["b"]], axis=1))
        u, bias = part["r"][:, :-1], part["r"][:, -1:]
        one = tf.ones_like(bias)
        support = tf.concat([part["psi"], u, one, bias], axis=1)
        output = tf.concat([*taste, u, one, *place, part["b"], bias], axis=1)
        return ItemRows(part["e"], support, output)


def _small() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=2e-3)
