"""What the events of a support set say, and how surely: the part that adapters of a linear model share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from shared.adapters.base import NUM_CHOICES, Adapter, Support
from shared.adapters.ratings import RatingRidge, Ratings
from shared.domain import Action
from shared.errors import InvalidInput

Tensor = Any
_DAY_S = 24 * 3600.0
# Prior pseudo-events behind the scale of the posterior, each of squared size 1.
_PRIOR_EVENTS = 4.0
# The label of a middling rating; from here on an event counts as a choice.
CHOSEN = 0.2
# How much of its label a low rating pushes by. NDCG@10 with fast weights on three development splits of
# MovieLens-100K: .2006 with a half, .1996 with all of it.
_LOW_RATING = 0.5


class Evidence(NamedTuple):
    """The support events of B people, newest first, zeros (weights: ones) in padding.

    rows Ψ [B, L, A]; targets y [B, L, T]; weights w [B, L]; mask [B, L].
    """

    rows: Tensor
    targets: Tensor
    weights: Tensor
    mask: Tensor


class EvidenceAdapter(Adapter):
    """An adapter of the model y = Ψδ + noise, with noise λ and events weighted by age.

    w = exp(−α·log(1 + age in days) − β·places from the end / 10), ages counted from the newest event, so
    that a history never fades as a whole.

    y_t = label for dislikes and skips, half of it for low ratings: all of them push. Otherwise
    ρ_t + (1 − ρ_t)·label: to have chosen an item at all foretells more of its kind (which is why a low rating
    pushes by half). Labels below `CHOSEN` have the smaller a share of ρ the nearer they are to 0 (a dwell of
    a second is no choice). ρ is a setting by task, not learned: by likelihood it comes out far below what
    ranks best (on MovieLens the mere fact of a rating predicts the next film better than its value).
    """

    kind: ClassVar[str]  # its name in `ADAPTERS`

    def __init__(
        self, *, adapt_dim: int, rank: int, noise: float = 3.5, chosen: Sequence[float] = (0.75, 0.4)
    ) -> None:
        """noise: λ at the start, above 0; chosen: ρ by task (next, like), in [0, 1]."""
        super().__init__(adapt_dim=adapt_dim, rank=rank, name=self.kind)
        self.noise_at_start = number("noise", noise, above=0.0)
        self.chosen = tuple(number("chosen", share, at_least=0.0, at_most=1.0) for share in chosen)
        if len(self.chosen) != NUM_CHOICES:
            raise InvalidInput.of("adapter_settings['chosen']", f"must be {NUM_CHOICES} numbers", chosen)
        self.ratings = RatingRidge()

    def build(self, input_shape: Any = None) -> None:
        constant = keras.initializers.Constant
        self.noise = self.add_weight(
            name="noise", shape=(), initializer=constant(before_softplus(self.noise_at_start))
        )
        self.decay = self.add_weight(name="decay", shape=(2,), initializer=constant(-3.0))
        self.ratings.build()
        self.built = True

    def star_weights(self, ratings: Ratings) -> Tensor:
        return self.ratings(ratings)

    def targets(self, actions: Tensor, labels: Tensor) -> Tensor:
        """y_t. [B, L], [B, L] → [B, L, T]."""
        low = tf.equal(actions, int(Action.RATING)) & (labels < 0.0)
        labels = tf.where(low, _LOW_RATING * labels, labels)
        share = np.asarray(self.chosen, np.float32) * tf.clip_by_value(labels[..., None] / CHOSEN, 0.0, 1.0)
        return share + (1.0 - share) * labels[..., None]

    def age_weights(self, ages_s: Tensor, mask: Tensor) -> Tensor:
        """w(age) in (0, 1]. [B, L] → [B, L], 1 in padding."""
        by_age, by_place = tf.unstack(tf.nn.softplus(self.decay.value))
        since_newest = tf.maximum(ages_s - ages_s[:, -1:], 0.0) * mask
        places = tf.cumsum(mask, axis=1, exclusive=True, reverse=True) * mask
        return tf.exp(-by_age * tf.math.log1p(since_newest / _DAY_S) - by_place * places / 10.0)

    def evidence(self, support: Support) -> Evidence:
        """Newest first: padding comes last, where a factorisation passes over it."""
        weights = self.age_weights(support.ages_s, support.mask)
        targets = self.targets(support.actions, support.labels)
        rows, targets, weights, mask = (
            tf.reverse(x, axis=[1]) for x in (support.rows, targets, weights, support.mask)
        )
        on = mask[..., None]
        return Evidence(rows * on, targets * on, weights, mask)

    def whiten(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """F = C⁻¹Ψ [B, L, A] and C⁻¹y [B, L, T] with C Cᵀ = ΨΨᵀ + λW⁻¹: the covariance of δ given y is
        s²(I − FᵀF). The first rows of F are the factor of the newest events alone."""
        rows, targets, weights, mask = evidence
        diagonal = mask * tf.nn.softplus(self.noise.value) / weights + (1.0 - mask)
        gram = tf.matmul(rows, rows, transpose_b=True) + tf.linalg.diag(diagonal)
        solved = tf.linalg.triangular_solve(tf.linalg.cholesky(gram), tf.concat([rows, targets], axis=-1))
        return solved[..., : self.adapt_dim], solved[..., self.adapt_dim :]

    def posterior(self, factor: Tensor, white: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """F cut to `rank` rows [B, rank, A], which leaves a wider but honest posterior, and its scale [B]:
        the posterior mean of s from how large the whitened targets are (empirical Bayes)."""
        missing = tf.maximum(self.rank - tf.shape(factor)[1], 0)
        cut = tf.pad(factor, [[0, 0], [0, missing], [0, 0]])[:, : self.rank]
        energy = tf.reduce_sum(white[..., 0] ** 2, axis=1)
        scale = tf.sqrt((energy + _PRIOR_EVENTS) / (tf.reduce_sum(mask, axis=1) + _PRIOR_EVENTS))
        return tf.ensure_shape(cut, [None, self.rank, self.adapt_dim]), scale


def before_softplus(value: float) -> float:
    """The x with log(1 + eˣ) = value."""
    return float(np.log(np.expm1(max(value, 1e-6))))


def number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> float:
    """A setting of an adapter. Raises InvalidInput naming it where it is no number within the bounds."""
    field = f"adapter_settings[{name!r}]"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput.of(field, "must be a finite number", value)
    if not (value > above and at_least <= value <= at_most):
        bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at least {at_least:g}"] * (
            at_least > -math.inf
        )
        bounds += [f"at most {at_most:g}"] * (at_most < math.inf)
        raise InvalidInput.of(field, f"must be {' and '.join(bounds)}", value)
    return float(value)


def whole_number(name: str, value: Any, *, at_least: int, at_most: int) -> int:
    """The same of one without a fraction."""
    found = number(name, value, at_least=at_least, at_most=at_most)
    if not found.is_integer():
        raise InvalidInput.of(f"adapter_settings[{name!r}]", "must be a whole number", value)
    return int(found)


def flag(name: str, value: Any) -> bool:
    """A setting that is on or off. Raises InvalidInput naming it where it is neither."""
    if not isinstance(value, bool):
        raise InvalidInput.of(f"adapter_settings[{name!r}]", "must be true or false", value)
    return value
