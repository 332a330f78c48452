"""The model: item tables and tower, encoder, adapter, heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from shared.adapters import CHOSEN, Ratings, Support, make_adapter
from shared.domain import Action, FloatArray
from shared.modeling.config import RATING_TASK, ModelConfig
from shared.modeling.encoder import Encoder, Inputs, last_state
from shared.modeling.heads import Heads
from shared.modeling.initial import ContentProjection, content_projection
from shared.modeling.item_tower import ItemRows, ItemTower
from shared.modeling.random import SILENCE, Noise
from shared.transitions import Transitions
from shared.trends import Trends

Tensor = Any
# Parts whose tables hold the whole row of an item: what its content says comes off its id embedding again.
# These tables start from a factorisation of the data and learn slowly or not at all; anything added to them
# drowns it.
_WHOLE = ("psi", "phi", "r")
_EVENT_INPUTS = ("input_rows", "support_rows", "actions", "values", "labels", "ages_s", "mask")


class Encoded(NamedTuple):
    """What the model makes of B people: queries [B, T, output_dim]; the posterior of their fast weights,
    factor [B, R, adapt_dim] and scale [B]; trail [B, config.trail], what their latest events count to go out
    from, the newest last."""

    queries: Tensor
    factor: Tensor
    scale: Tensor
    trail: Tensor


class WarmstartModel(keras.layers.Layer):  # type: ignore[misc]
    """Training's view of the model; `export.py` cuts the artifact out of it.

    content: [N, content_dim] float32, the catalogue's content embeddings (kept, not trained).
    `transitions`, `trends`: what goes into the artifact beside it, found when training is done (not in
    `state_arrays`).
    All variables are made here, so build it under the strategy's scope.
    """

    def __init__(self, config: ModelConfig, content: FloatArray, *, seed: int = 0) -> None:
        super().__init__(name="warmstart")
        keras.utils.set_random_seed(seed)
        self.config = config
        self.num_items = len(content)
        self.catalogue_content = tf.constant(content, tf.float32)
        self.transitions = Transitions.none(len(content), config.successors)
        self.trends = Trends.none(len(content))
        self.tower = ItemTower(config)
        self.encoder = Encoder(config)
        self.heads = Heads(config)
        self.adapter = make_adapter(
            config.adapter,
            adapt_dim=config.adapt_dim,
            rank=config.uncertainty_rank,
            **config.adapter_settings,
        )
        self.tables = {
            name: self.add_weight(
                name=f"table_{name}",
                shape=(self.num_items, size),
                initializer=keras.initializers.RandomNormal(stddev=0.0 if name in "br" else 0.05, seed=seed),
            )
            for name, size in config.row_dims.items()
        }
        for part in (self.tower, self.encoder, self.heads, self.adapter):
            part.build()
        self.built = True
        self.set_projection(content_projection(content, config.content_rank))

    def set_projection(self, projection: ContentProjection) -> None:
        """Sets the tower's fixed projection and projects the catalogue once."""
        self.tower.centre.assign(projection.centre)
        self.tower.projection.assign(projection.components)
        self.projected = tf.constant(self.tower.project(self.catalogue_content).numpy())

    def id_rows(self, content_rows: Tensor, items: Tensor | None = None) -> Tensor:
        """Id embeddings of the whole catalogue, or of some items. [M] int32 → [M, id_dim].

        content_rows: of the same items, [M, id_dim].
        """
        dims = self.config.row_dims
        tables = {name: self.tables[name].value for name in dims}
        if items is not None:
            tables = {name: tf.gather(table, items) for name, table in tables.items()}
        content = dict(zip(dims, tf.split(content_rows, list(dims.values()), axis=1), strict=True))
        return tf.concat(
            [table - content[name] if name in _WHOLE else table for name, table in tables.items()], axis=1
        )

    def content_rows(self, items: Tensor | None = None) -> Tensor:
        """The content's share of the rows of the whole catalogue, or of some items. [M, id_dim]."""
        projected = self.projected if items is None else tf.gather(self.projected, items)
        return self.tower.content_rows(projected)

    def item_rows(self, items: Tensor | None = None, present: Tensor | None = None) -> ItemRows:
        """Rows of the whole catalogue, or of some items. present: [M], 1 unless given."""
        content = self.content_rows(items)
        ids = self.id_rows(content, items)
        kept = tf.ones(tf.shape(ids)[:1]) if present is None else present
        return self.tower.fuse(ids, kept, content)

    def encode_adapt(self, inputs: Inputs, adapt: Tensor, noise: Noise = SILENCE) -> Encoded:
        """inputs: those of `shared.context.batch.ModelInputs`; adapt: [B] float32, 1 = fast weights and
        transitions on, 0 = off."""
        latest = {**inputs, **{name: inputs[name][:, -self.config.reach :] for name in _EVENT_INPUTS}}
        state = last_state(self.encoder(latest, noise=noise), latest["mask"])
        rows = latest["support_rows"][..., : self.config.adapt_dim]
        events = Support(rows, *(latest[name] for name in ("actions", "labels", "ages_s", "mask")))
        adapted = self.adapter(events, state)
        stars = None
        if self.config.rating_dim:
            stars = self.adapter.star_weights(self.ratings(inputs)) * adapt[:, None]
        shots = tf.reduce_sum(latest["mask"], axis=1)
        kappa = self.heads.transition_scales(shots) * adapt[:, None]
        queries = self.heads(state, adapted.fast_weights * adapt[:, None, None], stars, kappa, shots)
        # The posterior is of the fast weights of choices as they stand in a query, so it is scaled like them.
        scale = adapted.scale * tf.reduce_mean(tf.abs(self.heads.scales(shots)), axis=1) * adapt
        trail = self.trail(latest) * adapt[:, None]
        return Encoded(queries, adapted.factor * adapt[:, None, None], scale, trail)

    def trail(self, latest: Inputs) -> Tensor:
        """What follows a rating says little of whether it was a good one, so all of them count; other events
        count by how much of a choice they are."""
        length = self.config.trail
        rating = tf.equal(latest["actions"], int(Action.RATING))
        counts = tf.where(rating, 1.0, tf.clip_by_value(latest["labels"] / CHOSEN, 0.0, 1.0))
        weights = self.heads.trail(counts, latest["mask"])[:, -length:] if length else counts[:, :0]
        missing = tf.maximum(length - tf.shape(weights)[1], 0)
        return tf.ensure_shape(tf.pad(weights, [[0, 0], [missing, 0]]), [None, length])

    def ratings(self, inputs: Inputs) -> Ratings:
        """The ratings among all events of a batch, less what everybody thinks."""
        rows = inputs["support_rows"][..., self.config.adapt_dim :]
        rated = inputs["mask"] * tf.cast(tf.equal(inputs["actions"], int(Action.RATING)), tf.float32)
        stars = inputs["values"] - self.offset(RATING_TASK) - rows[..., -1]
        return Ratings(rows, stars * rated, rated)

    def offset(self, task: str) -> Tensor:
        """What a task's raw score stands above."""
        return self.heads.offsets.value[self.config.tasks.index(task)]

    def offsets(self) -> dict[str, float]:
        """By task, as the manifest has them."""
        return dict(zip(self.config.tasks, self.heads.offsets.numpy().tolist(), strict=True))

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All variables by path, for checkpoints."""
        return {variable.path: variable.numpy() for variable in self.variables}

    def load_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """The inverse of `state_arrays`; variables that are not named (another adapter's) stay."""
        for variable in self.variables:
            if variable.path in arrays:
                variable.assign(arrays[variable.path])
        self.projected = tf.constant(self.tower.project(self.catalogue_content).numpy())
