"""Scores of episodes over the whole catalogue, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.data import TrainingData
from services.training.episodes import PROTOCOL_EVENTS_BEFORE, episode_inputs, query_times
from services.training.parts import people_at_once
from services.training.trends import Recent
from services.training.windows import Cuts
from shared.domain import FloatArray
from shared.modeling.config import CHOICES, RATING_TASK, ModelConfig
from shared.modeling.item_tower import ItemRows
from shared.modeling.model import WarmstartModel

Tensor = Any


def in_parts(cuts: Cuts, *, num_items: int, num_tasks: int) -> Iterator[Cuts]:
    """Episodes so few at a time that their scores of a large catalogue fit into memory; one at least."""
    size = people_at_once(num_items * num_tasks, max(len(cuts), 1))
    for start in range(0, len(cuts), size):
        yield cuts.take(np.arange(start, min(start + size, len(cuts))))


def episode_scores(
    model: WarmstartModel,
    data: TrainingData,
    cuts: Cuts,
    rows: ItemRows | None = None,
    recent: Recent | None = None,
) -> FloatArray:
    """Raw scores of the whole catalogue, with trends where it is said what was recent. [B, T, N] float32."""
    parts = score_parts(model, data, cuts, rows, recent)
    without, following = parts.by_kappa()
    scores: FloatArray = without + parts.kappa * following
    return scores


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParts:
    """What raw scores of B episodes over N items are made of; scores of a part are computed when asked for.

    queries [B, T, D] by output [N, D]; in them stars [B, 1, D], what fast weights of ratings add to a rating,
    by sigma [B, T, 1], of choices; kappa [B, T, 1] of following [B, 1, N], how much items follow what the
    person has done; omega [B, T, 1] of lifts [B, 1, N], how much more they were chosen of late than in the
    long run ([B, 1, 1] zeros where nothing is said of it). float32.
    """

    config: ModelConfig
    queries: FloatArray
    output: Tensor
    kappa: FloatArray
    following: FloatArray
    omega: FloatArray
    lifts: FloatArray
    sigma: FloatArray
    stars: FloatArray

    def by_tau(self) -> tuple[FloatArray, FloatArray]:
        """What stays as it is when τ changes, and what follows it; see `by_gamma` for the shapes."""
        return self._apart(self.queries * self._places(0, self.config.dim))

    def by_gamma(self) -> tuple[FloatArray, FloatArray]:
        """What stays as it is when γ changes, and what follows it. [B, T, N] each."""
        return self._apart(self.queries * self._places(self.config.adapt_offset, self.config.adapt_dim))

    def by_kappa(self) -> tuple[FloatArray, FloatArray]:
        """What there is without κ, and what κ is a factor of."""
        without = self._lifted(self._scores(self.queries))
        return without, np.broadcast_to(self.following, without.shape)

    def by_omega(self) -> tuple[FloatArray, FloatArray]:
        """What there is without ω, and what ω is a factor of."""
        without = self._followed(self._scores(self.queries))
        return without, np.broadcast_to(self.lifts, without.shape)

    def by_sigma(self) -> tuple[FloatArray, FloatArray]:
        """What there is without σ, and what σ is a factor of."""
        without = self._added(self._scores(self.queries - self.sigma * self.stars))
        return without, np.broadcast_to(self._scores(self.stars), without.shape)

    def _apart(self, part: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self._added(self._scores(self.queries - part)), self._scores(part)

    def _added(self, scores: FloatArray) -> FloatArray:
        return self._lifted(self._followed(scores))

    # As long as κ or ω is not chosen: no copies of scores of the whole catalogue.

    def _followed(self, scores: FloatArray) -> FloatArray:
        return scores + self.kappa * self.following if self.kappa.any() else scores

    def _lifted(self, scores: FloatArray) -> FloatArray:
        return scores + self.omega * self.lifts if self.omega.any() else scores

    def _scores(self, queries: FloatArray) -> FloatArray:
        scores: FloatArray = tf.einsum("btd,nd->btn", queries, self.output).numpy()
        return scores

    def _places(self, start: int, width: int) -> FloatArray:
        chosen = np.zeros(self.config.output_dim, np.float32)
        chosen[start : start + width] = 1.0
        return chosen


def score_parts(
    model: WarmstartModel,
    data: TrainingData,
    cuts: Cuts,
    rows: ItemRows | None = None,
    recent: Recent | None = None,
) -> ScoreParts:
    """Of episodes, over the whole catalogue. rows: the model's, where they have been made already; recent:
    what was chosen before each of them, without which trends count nothing."""
    config = model.config
    length = max(PROTOCOL_EVENTS_BEFORE, int(cuts.counts.max()))
    batch = episode_inputs(data, cuts, length)
    rows = rows or model.item_rows()
    on = batch["mask"][..., None]
    inputs = {name: tf.constant(value) for name, value in batch.items() if name != "items"}
    inputs["input_rows"] = tf.gather(rows.input, batch["items"]) * on
    inputs["support_rows"] = tf.gather(rows.support, batch["items"]) * on
    encoded = model.encode_adapt(inputs, tf.ones(len(cuts)))
    queries = encoded.queries.numpy()
    stars, sigma = _stars(model, encoded.queries, batch["mask"])
    kappa = _factor(queries, config.transition_offset, config.transition_width)
    omega, lifts = np.zeros_like(kappa), np.zeros((len(cuts), 1, 1), np.float32)
    if recent is not None:
        omega = _factor(queries, config.trend_offset, config.trend_width)
        lifts = model.trends.lifts_all(recent.before(query_times(data, cuts)))[:, None]
    trail = encoded.trail.numpy()
    latest = min(trail.shape[1], length)
    items = np.where(batch["mask"] > 0, batch["items"], -1)[:, length - latest :]
    following = model.transitions.following_all(items, trail[:, trail.shape[1] - latest :])
    added = (kappa, following[:, None], omega, lifts)
    return ScoreParts(config, queries, rows.output, *added, sigma.numpy(), stars.numpy())


def _factor(queries: FloatArray, place: int, width: int) -> FloatArray:
    """What a query has in a place that scoring fills in, which is 0 or 1 wide. [B, T, D] → [B, T, 1]."""
    factor: FloatArray = queries[..., place : place + width].sum(axis=-1, keepdims=True)
    return factor


def _stars(model: WarmstartModel, queries: Tensor, mask: FloatArray) -> tuple[Tensor, Tensor]:
    """The part of a query that is fast weights of ratings, [B, 1, output_dim], and σ, [B, T, 1], of choices:
    zeros where the model has no ratings."""
    config, people = model.config, len(mask)
    if not config.rating_dim:
        return tf.zeros([people, 1, config.output_dim]), tf.zeros([people, len(config.tasks), 1])
    asked = queries[:, config.tasks.index(RATING_TASK)][:, None]
    first, bias = config.taste_dim, config.output_dim - 1
    part = np.zeros(config.output_dim, np.float32)
    part[first : first + config.rating_width] = 1.0
    part[bias] = 1.0
    # The bias is asked for by 1 and what the person adds.
    stars = asked * part - tf.one_hot(bias, config.output_dim)
    shots = mask[:, -config.reach :].sum(axis=1)
    choices = np.array([task in CHOICES for task in config.tasks], np.float32)
    return stars, model.heads.star_shares(tf.constant(shots)) * choices[:, None]
