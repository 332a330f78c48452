"""The item tower: id embedding (or its absence) and content embedding → the item's three rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from shared.modeling.config import ModelConfig

Tensor = Any


class ItemRows(NamedTuple):
    """input [N, input_dim] e; support [N, support_dim] ψ; output [N, output_dim] x = [v ; φ ; b]."""

    input: Tensor
    support: Tensor
    output: Tensor


class ItemTower(keras.layers.Layer):  # type: ignore[misc]
    """row = present · id + (1 − present) · absence + MLP(content).

    An id embedding holds the item's own share of all rows, on top of what its content says, so
    that an item without one is an ordinary item of its kind. Training hides the id of some items
    at each step (id dropout, as in DropoutNet, Volkovs et al. 2017), which teaches the content
    network and the absence vector to stand in for it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="item_tower")
        self.config = config
        self.hidden = keras.layers.Dense(config.content_hidden, activation="gelu", name="hidden")
        self.out = keras.layers.Dense(config.id_dim, use_bias=False, name="out", kernel_initializer=_small())

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
        self.built = True

    def project(self, content: Tensor) -> Tensor:
        """Centred and reduced content, zeros for items without any. [N, content_dim] → [N, content_rank]."""
        some = tf.cast(tf.reduce_any(tf.not_equal(content, 0.0), axis=1, keepdims=True), tf.float32)
        return tf.matmul((content - self.centre.value) * some, self.projection.value)

    def content_rows(self, projected: Tensor) -> Tensor:
        """What content alone says of all rows. [N, content_rank] → [N, id_dim]."""
        return self.out(self.hidden(projected))

    def call(self, id_rows: Tensor, id_present: Tensor, content: Tensor) -> ItemRows:
        """id_rows [N, id_dim]; id_present [N], 1 or 0; content [N, content_dim], zeros = none."""
        return self.fuse(id_rows, id_present, self.content_rows(self.project(content)))

    def fuse(self, id_rows: Tensor, id_present: Tensor, content_rows: Tensor) -> ItemRows:
        """The same where the content's share [N, id_dim] is at hand."""
        present = id_present[:, None]
        return self.split(present * id_rows + (1.0 - present) * self.absence + content_rows)

    def split(self, rows: Tensor) -> ItemRows:
        """[N, id_dim] → the three rows."""
        config = self.config
        sizes = [config.input_dim, config.support_dim, config.output_dim]
        return ItemRows(*tf.split(rows, sizes, axis=1))


def _small() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=2e-3)
