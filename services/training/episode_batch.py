"""A step's episodes as a batch, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.episodes import (
    EpisodeShape,
    episode_inputs,
    events_so_far,
    excluded,
    query_sets,
    query_stars,
)
from services.training.reactions import ReactionConfig, reaction_inputs
from services.training.windows import LIKED_LABEL, Batch, Cuts, make_pool
from shared.modeling.config import CHOICES, LIKE_TASK, NEXT_TASK, RATING_TASK
from shared.modeling.item_tower import ItemRows
from shared.modeling.losses import correct, exclude, set_loss, sigmoid_loss, squared_loss
from shared.modeling.model import WarmstartModel
from shared.modeling.random import SILENCE, Noise

Tensor = Any


def episode_batch(
    data: TrainingData,
    cuts: Cuts,
    shape: EpisodeShape,
    rng: np.random.Generator,
    reactions: ReactionConfig | None = None,
) -> Batch:
    """Model inputs of the support sets, query sets as columns of the pool, and what is masked.

    reactions: which made-up ones are added, if any.
    """
    batch = episode_inputs(
        data, cuts, shape.max_shots, action_share=shape.action_share, thin_share=shape.thin_share, rng=rng
    )
    targets, there, labels = query_sets(data, cuts, shape.query)
    if reactions is not None and reactions.weight > 0.0:
        batch |= reaction_inputs(data, batch, targets, reactions, rng)
    needed = np.concatenate([batch["items"].ravel(), targets.ravel()])
    pool = make_pool(data, needed, shape.pool_items, rng)
    out = excluded(events_so_far(data, cuts), data.num_items)
    for name in ("items", "reaction_items", "reaction_item"):
        if name in batch:
            batch[name] = pool.columns(batch[name])
    batch["targets"] = pool.columns(targets)
    batch[f"{NEXT_TASK}_weight"] = there
    batch[f"{LIKE_TASK}_weight"] = there * (labels >= LIKED_LABEL)
    batch["stars"], batch[f"{RATING_TASK}_weight"] = query_stars(data, cuts, shape.query)
    batch["excluded"] = out if pool.items is None else out[:, pool.items]
    # A target that the person has had before stays a target.
    np.put_along_axis(batch["excluded"], batch["targets"], 0, axis=1)
    batch["log_q"] = pool.log_q
    if pool.items is not None:
        batch["pool"] = pool.items
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in batch.items()}


@dataclass(frozen=True, slots=True, eq=False)
class ScoredEpisodes:
    """B episodes over the M columns of their pool.

    logits [2][B, M]: of choices, without fast weights, of what may be shown; queries [B, T, output_dim];
    rows: of the columns; content, ids [M, id_dim]: what the rows are made of.
    """

    logits: Sequence[Tensor]
    queries: Tensor
    rows: ItemRows
    content: Tensor
    ids: Tensor


def score_episodes(
    model: WarmstartModel,
    batch: Mapping[str, Tensor],
    *,
    noise: Noise = SILENCE,
    support_noise: Noise = SILENCE,
    id_dropout: float = 0.0,
) -> ScoredEpisodes:
    """noise: on items' ids (id_dropout: share of those hidden) and in the encoder; support_noise: on ψ."""
    content = model.content_rows(batch.get("pool"))
    ids = model.id_rows(content, batch.get("pool"))
    present = tf.ones_like(batch["log_q"])
    if id_dropout > 0.0:
        present = tf.cast(noise.uniform(tf.shape(present)) >= id_dropout, tf.float32)
    rows = model.tower.fuse(ids, present, content)
    on = batch["mask"][..., None]
    inputs = {
        **batch,
        "input_rows": tf.gather(rows.input, batch["items"]) * on,
        "support_rows": support_noise.dropout(
            tf.gather(rows.support, batch["items"]) * on, model.config.adapt_dropout
        ),
    }
    queries = model.encode_adapt(inputs, tf.ones(tf.shape(on)[:1]), noise).queries
    values, biases = rows.output[:, : model.config.dim], rows.output[:, -len(model.config.tasks) :]
    logits = []
    for number in range(len(CHOICES)):
        raw = tf.matmul(queries[:, number, : model.config.dim], values, transpose_b=True) + biases[:, number]
        logits.append(exclude(correct(raw, batch["log_q"]), batch["excluded"]))
    return ScoredEpisodes(logits, queries, rows, content, ids)


def like_loss(
    model: WarmstartModel, batch: Mapping[str, Tensor], scored: ScoredEpisodes, sigmoid: float
) -> Tensor:
    """Of the liked query events: binary cross-entropy of every item, which makes a score a probability, with
    the softmax over items, which ranks, as in JRC (Sheng et al., 2023). sigmoid: share of the first."""
    number = CHOICES.index(LIKE_TASK)
    targets, liked = batch["targets"], batch[f"{LIKE_TASK}_weight"]
    ranking = set_loss(scored.logits[number], targets, liked)
    # What may not be shown scores so low that it costs nothing.
    logits = scored.logits[number] + batch["log_q"] + model.offset(LIKE_TASK)
    copies = tf.broadcast_to(tf.exp(-batch["log_q"]), tf.shape(logits))
    return sigmoid * sigmoid_loss(logits, targets, liked, copies) + (1.0 - sigmoid) * ranking


def rating_loss(model: WarmstartModel, batch: Mapping[str, Tensor], scored: ScoredEpisodes) -> Tensor:
    """Of the stars of the query events, without fast weights; items' own biases and the mean are given."""
    number = model.config.tasks.index(RATING_TASK)
    values, biases = scored.rows.output[:, : model.config.dim], scored.rows.output[:, -1]
    query = scored.queries[:, number, : model.config.dim]
    said = tf.einsum("bd,bqd->bq", query, tf.gather(values, batch["targets"]))
    known = tf.stop_gradient(tf.gather(biases, batch["targets"]) + model.offset(RATING_TASK))
    return squared_loss(said + known, batch["stars"], batch[f"{RATING_TASK}_weight"])
