"""A model's body as a function of one vector of weights: what adapters of the whole body descend.

The model's own variables are where the weights start. Nothing is ever written to them: a person's weights
stand in for them while something is computed (Keras's `StatelessScope`), so there is nothing to restore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from services.training.windows import LIKED_LABEL
from shared.adapters.body import Episode
from shared.domain import NUM_ACTIONS, Action
from shared.modeling.config import CHOICES, LIKE_TASK, NEXT_TASK
from shared.modeling.losses import correct, exclude, set_loss, softmax_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import SILENCE, Noise

Tensor = Any
# One person's model inputs with a first axis of 1: those of `shared.context.batch.ModelInputs`, with `items`
# (columns of a table, int32) in place of the rows.
Person = Mapping[str, Tensor]

LIKE_WEIGHT = 0.5  # as in pre-training and meta-training
# What was turned down foretells nothing.
_CHOSEN = np.ones(NUM_ACTIONS, np.float32)
_CHOSEN[[Action.DISLIKE, Action.SKIP]] = 0.0


class Table(NamedTuple):
    """Rows of M items.

    input [M, input_dim]; output [M, output_dim]; log_q [M]: log of the probability with which a column was
    sampled, 0 where the whole catalogue is there.
    """

    input: Tensor
    output: Tensor
    log_q: Tensor

    def columns(self, pool: Tensor | None, log_q: Tensor) -> Table:
        """Those of the items of a pool, see `windows.make_pool`; None: all of them."""
        if pool is None:
            return self._replace(log_q=log_q)
        return Table(tf.gather(self.input, pool), tf.gather(self.output, pool), log_q)


class Body:
    """Encoder and heads, as functions of their weights θ [P].

    rows: the rows of the catalogue are weights too. Then every table is θ's own, whichever is given.
    """

    def __init__(self, model: WarmstartModel, *, rows: bool = False) -> None:
        self.model, self.rows = model, rows
        self.variables = [*model.encoder.trainable_variables, *model.heads.trainable_variables]
        self.num_weights = sum(int(np.prod(part.shape)) for part in self._parts())

    def catalogue(self) -> Table:
        """The table of all items."""
        rows = self.model.item_rows()
        return Table(rows.input, rows.output, tf.zeros([self.model.num_items]))

    def start(self) -> Tensor:
        """θ as the model has it; gradients reach the variables. [P]"""
        return tf.concat([tf.reshape(part, [-1]) for part in self._parts()], axis=0)

    def episode(self, person: Person, table: Table, noise: Noise = SILENCE) -> Episode:
        """The person's losses. noise: in the query's encoding; inner steps are as they are in evaluation."""
        return Episode(
            lambda weights: self.support_loss(weights, person, table),
            lambda weights: self.query_loss(weights, person, table, noise),
        )

    def support_loss(self, weights: Tensor, person: Person, table: Table) -> Tensor:
        """−log softmax over the table of each support event, given those before it: the mean, as in
        pre-training. 0 where there are none.

        The content profile is made from the very events to be foretold, so it is hidden.
        """
        variables, table = self._split(weights, table)
        mask, dim = person["mask"], self.model.config.dim
        blind = {**self._inputs(person, table), "content_profile": tf.zeros_like(person["content_profile"])}
        shots = tf.pad(tf.cumsum(mask, axis=1), [[0, 0], [1, 0]])
        with self._standing_in(variables):
            queries = self.model.heads.sequence_queries(self.model.encoder(blind, noise=SILENCE), shots)
        # The place before an event foretells it; before the first one, that is START.
        first = mask * (1.0 - tf.pad(mask[:, :-1], [[0, 0], [1, 0]]))
        before = tf.where(first[..., None, None] > 0.0, queries[:, :1], queries[:, :-1])[0]
        chosen = tf.gather(_CHOSEN, person["actions"][0]) * mask[0]
        liked = chosen * tf.cast(person["labels"][0] >= LIKED_LABEL, tf.float32)
        total = 0.0
        for task, wanted, share in ((NEXT_TASK, chosen, 1.0), (LIKE_TASK, liked, LIKE_WEIGHT)):
            number = CHOICES.index(task)
            logits = tf.matmul(before[:, number], table.output[:, :dim], transpose_b=True)
            logits += table.output[:, number - len(self.model.config.tasks)]
            total += share * softmax_loss(correct(logits, table.log_q), person["items"][0], wanted)
        return total

    def query_loss(self, weights: Tensor, person: Person, table: Table, noise: Noise = SILENCE) -> Tensor:
        """The same of the query set after the support, as in meta-training. person: also `targets`,
        `<task>_weight` and `excluded`, see `episode_batch`."""
        scores, table = self._scores(weights, person, table, noise)
        total = 0.0
        for task, share in ((NEXT_TASK, 1.0), (LIKE_TASK, LIKE_WEIGHT)):
            logits = exclude(correct(scores[CHOICES.index(task)], table.log_q)[None], person["excluded"])
            total += share * set_loss(logits, person["targets"], person[f"{task}_weight"])
        return total

    def scores(self, weights: Tensor, person: Person, table: Table) -> Tensor:
        """Raw scores of the table after the support. [T, M]"""
        return self._scores(weights, person, table, SILENCE)[0]

    def _scores(self, weights: Tensor, person: Person, table: Table, noise: Noise) -> tuple[Tensor, Table]:
        """[T, M], and the table that they are of."""
        variables, table = self._split(weights, table)
        with self._standing_in(variables):
            queries = self.model.encode_adapt(self._inputs(person, table), tf.zeros([1]), noise).queries
        return tf.matmul(queries[0], table.output, transpose_b=True), table

    def _inputs(self, person: Person, table: Table) -> dict[str, Tensor]:
        """Without support rows: there are no fast weights."""
        rows = tf.gather(table.input, person["items"]) * person["mask"][..., None]
        none = tf.zeros([1, tf.shape(rows)[1], self.model.config.support_dim])
        return {**person, "input_rows": rows, "support_rows": none}

    def _parts(self) -> list[Tensor]:
        """What θ is made of."""
        return [*(v.value for v in self.variables), *(self.catalogue()[:2] if self.rows else ())]

    def _split(self, weights: Tensor, table: Table) -> tuple[list[Tensor], Table]:
        """θ as values of the variables, and the table that goes with it."""
        shapes = [tuple(v.shape) for v in self.variables]
        if self.rows:
            shapes += [tuple(part.shape) for part in table[:2]]
        flat = tf.split(weights, [int(np.prod(shape)) for shape in shapes])
        parts = [tf.reshape(part, shape) for part, shape in zip(flat, shapes, strict=True)]
        count = len(self.variables)
        return parts[:count], Table(parts[-2], parts[-1], table.log_q) if self.rows else table

    def _standing_in(self, values: list[Tensor]) -> Any:
        return keras.StatelessScope(state_mapping=list(zip(self.variables, values, strict=True)))
