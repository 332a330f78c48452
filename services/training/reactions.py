"""What a like, a dislike or a skip must do: raise or lower the items around it.

Ratings-only data never says "less of this": people rate what they have chosen, so even a low rating
foretells similar items. The product's meaning of a dislike is therefore taught: to some episodes one
made-up reaction is added, and the log-probabilities (softmax over the catalogue) of the item's nearest
items shall move by so much and no more: without an upper end a single dislike turned whole lists over.
Only the person's side learns from it, item rows do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.episodes import support_profiles
from services.training.windows import Batch
from shared.context.labels import signed_labels
from shared.domain import Action, IntArray
from shared.modeling.config import CHOICES
from shared.modeling.item_tower import ItemRows
from shared.modeling.model import WarmstartModel

Tensor = Any
_PREFIX = "reaction_"
_EVENT_FIELDS = ("items", "actions", "values", "labels", "ages_s", "mask")
_PERSON_FIELDS = ("attributes", "content_profile", "social_profile", "request")
_REACTIONS = np.array([Action.LIKE, Action.DISLIKE, Action.SKIP], np.int32)
_SHARES = np.array([0.5, 0.3, 0.2])


@dataclass(frozen=True, slots=True)
class ReactionConfig:
    """episodes: how many of a step get a made-up reaction; weight: of the loss; move: of the nearest items'
    mean log-probability by a reaction of label 1; nearest: how many items must move, by cosine of output
    rows without their biases.

    Without fast weights: else the encoder may pull where they push."""

    episodes: int = 8
    weight: float = 0.2
    move: float = 1.0
    nearest: int = 20


def reaction_inputs(
    data: TrainingData, batch: Batch, targets: IntArray, config: ReactionConfig, rng: np.random.Generator
) -> Batch:
    """The first episodes of a batch twice, without and with one more event; under `reaction_…`.

    batch: model inputs with catalogue numbers in `items`. The item is a query event of some episode
    (so it is in the pool and as popular as what people do), the action a like, dislike or skip.
    """
    count = min(config.episodes, len(batch["mask"]))
    before = {name: batch[name][:count] for name in (*_EVENT_FIELDS, *_PERSON_FIELDS)}
    actions = rng.choice(_REACTIONS, size=count, p=_SHARES)
    zeros = np.zeros(count, np.float32)
    newest: dict[str, np.ndarray[Any, Any]] = {
        "items": rng.choice(targets.ravel(), size=count).astype(np.int32),
        "actions": actions,
        "values": zeros,
        "labels": signed_labels(actions, zeros),
        "ages_s": zeros,
        "mask": np.ones(count, np.float32),
    }
    after = {**before}
    for name, column in newest.items():
        after[name] = np.concatenate([before[name][:, 1:], column[:, None]], axis=1)
    after["content_profile"] = support_profiles(data, after)
    both = {f"{_PREFIX}{name}": np.concatenate([before[name], after[name]]) for name in before}
    return {**both, f"{_PREFIX}item": newest["items"], f"{_PREFIX}label": newest["labels"]}


def reaction_loss(
    model: WarmstartModel, batch: Mapping[str, Tensor], rows: ItemRows, config: ReactionConfig
) -> tuple[Tensor, Tensor]:
    """Mean distance to the move that is wanted, and the share of reactions that move the right way.

    batch: `reaction_…` fields, items as columns of the pool; rows: of the pool.
    """
    rows = ItemRows(*(tf.stop_gradient(part) for part in rows))
    inputs = {name: batch[_PREFIX + name] for name in (*_EVENT_FIELDS, *_PERSON_FIELDS)}
    on = inputs["mask"][..., None]
    inputs["input_rows"] = tf.gather(rows.input, inputs["items"]) * on
    inputs["support_rows"] = tf.gather(rows.support, inputs["items"]) * on
    queries = model.encode_adapt(inputs, tf.zeros(tf.shape(on)[:1])).queries
    # By log-probability: what counts is the place among what else would be shown, not in the whole catalogue.
    scores = tf.einsum("btd,md->btm", queries[:, : len(CHOICES)], rows.output)
    before, after = tf.split(tf.nn.log_softmax(scores), 2)
    moved = after - tf.stop_gradient(before)
    taste = tf.math.l2_normalize(rows.output[:, : model.config.taste_dim], axis=1)
    likeness = tf.matmul(tf.gather(taste, batch[f"{_PREFIX}item"]), taste, transpose_b=True)
    # The item itself is the most alike, and out of the person's list from now on.
    _, nearest = tf.math.top_k(likeness, tf.minimum(config.nearest + 1, tf.shape(taste)[0]))
    near = tf.reduce_mean(tf.gather(moved, nearest[:, 1:], axis=2, batch_dims=1), axis=2)
    label = batch[f"{_PREFIX}label"][:, None]
    right = tf.reduce_mean(tf.cast(near * label > 0.0, tf.float32))
    return tf.reduce_mean(tf.abs(near - config.move * label)), right
