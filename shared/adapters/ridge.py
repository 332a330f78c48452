"""Closed-form ridge regression on the support set, in its dual form.

The meta-learned part is everything but the solve: ψ and φ, the noise λ and the age weights (after
R2-D2, Bertinetto et al., 2019, "Meta-learning with differentiable closed-form solvers"). Plain version:
`shared.adapters.plain.ridge`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shared.adapters.base import Adapted, Adapter, Support
from shared.domain import Action

Tensor = Any
_DAY_S = 24 * 3600.0
# Prior pseudo-events behind the scale of the posterior, each of squared size 1.
_PRIOR_EVENTS = 4.0
# The label of a middling rating; from here on an event counts as a choice.
_CHOSEN = 0.2
# How much of its label a low rating pushes by. NDCG@10 with fast weights on three development splits of
# MovieLens-100K: .2006 with a half, .1996 with all of it.
_LOW_RATING = 0.5


class RidgeAdapter(Adapter):
    """δ = Ψᵀ (ΨΨᵀ + λ W⁻¹)⁻¹ y: the posterior mean of δ ~ N(0, s²I) given y = Ψδ + noise.

    W = diag(w), w = exp(−α·log(1 + age in days) − β·places from the end / 10), ages counted from
    the newest event, so that a history never fades as a whole.

    y_t = label for dislikes and skips, half of it for low ratings: all of them push. Otherwise
    ρ_t + (1 − ρ_t)·label: to have chosen an item at all foretells more of its kind (which is why a low rating
    pushes by half). Labels below `_CHOSEN` have the smaller a share of ρ the nearer they are to 0 (a dwell of
    a second is no choice). ρ is a setting by task, not learned: by likelihood it comes out far below what
    ranks best (on MovieLens the mere fact of a rating predicts the next film better than its value).

    With C Cᵀ = ΨΨᵀ + λW⁻¹ (newest event first), F = C⁻¹Ψ gives δ = Fᵀ(C⁻¹y) and the covariance
    s²(I − FᵀF). The first rows of F are the factor of the newest events alone, so cutting it at
    `rank` rows leaves a wider but honest posterior.
    """

    def __init__(
        self, *, adapt_dim: int, rank: int, noise: float = 3.5, chosen: tuple[float, float] = (0.75, 0.4)
    ) -> None:
        """noise: λ at the start; chosen: ρ by task (next, like), in [0, 1]."""
        super().__init__(adapt_dim=adapt_dim, rank=rank, name="ridge")
        self.noise_at_start, self.chosen = noise, chosen

    def build(self, input_shape: Any = None) -> None:
        constant = keras.initializers.Constant
        self.noise = self.add_weight(
            name="noise", shape=(), initializer=constant(_before_softplus(self.noise_at_start))
        )
        self.decay = self.add_weight(name="decay", shape=(2,), initializer=constant(-3.0))
        self.built = True

    def targets(self, actions: Tensor, labels: Tensor) -> Tensor:
        """y_t. [B, L], [B, L] → [B, L, T]."""
        low = tf.equal(actions, int(Action.RATING)) & (labels < 0.0)
        labels = tf.where(low, _LOW_RATING * labels, labels)
        share = np.asarray(self.chosen, np.float32) * tf.clip_by_value(labels[..., None] / _CHOSEN, 0.0, 1.0)
        return share + (1.0 - share) * labels[..., None]

    def age_weights(self, ages_s: Tensor, mask: Tensor) -> Tensor:
        """w(age) in (0, 1]. [B, L] → [B, L], 1 in padding."""
        by_age, by_place = tf.unstack(tf.nn.softplus(self.decay.value))
        since_newest = tf.maximum(ages_s - ages_s[:, -1:], 0.0) * mask
        places = tf.cumsum(mask, axis=1, exclusive=True, reverse=True) * mask
        return tf.exp(-by_age * tf.math.log1p(since_newest / _DAY_S) - by_place * places / 10.0)

    def call(self, support: Support, state: Tensor) -> Adapted:
        weights = self.age_weights(support.ages_s, support.mask)
        targets = self.targets(support.actions, support.labels)
        # Newest first; padding last, with rows of zeros and a diagonal of one.
        rows, targets, mask, weights = (
            tf.reverse(x, axis=[1]) for x in (support.rows, targets, support.mask, weights)
        )
        rows *= mask[..., None]
        diagonal = mask * tf.nn.softplus(self.noise.value) / weights + (1.0 - mask)
        targets *= mask[..., None]
        gram = tf.matmul(rows, rows, transpose_b=True) + tf.linalg.diag(diagonal)
        solved = tf.linalg.triangular_solve(tf.linalg.cholesky(gram), tf.concat([rows, targets], axis=-1))
        factor, white = solved[..., : self.adapt_dim], solved[..., self.adapt_dim :]
        fast_weights = tf.matmul(white, factor, transpose_a=True)
        return Adapted(fast_weights, self._cut(factor), self._scale(white[..., 0], mask))

    def _cut(self, factor: Tensor) -> Tensor:
        """[B, L, A] → [B, rank, A]; short histories are filled up with zeros."""
        missing = tf.maximum(self.rank - tf.shape(factor)[1], 0)
        padded = tf.pad(factor, [[0, 0], [0, missing], [0, 0]])[:, : self.rank]
        return tf.ensure_shape(padded, [None, self.rank, self.adapt_dim])

    def _scale(self, white: Tensor, mask: Tensor) -> Tensor:
        """Posterior mean of s, from how large the whitened labels are (empirical Bayes). [B]."""
        energy = tf.reduce_sum(white**2, axis=1)
        return tf.sqrt((energy + _PRIOR_EVENTS) / (tf.reduce_sum(mask, axis=1) + _PRIOR_EVENTS))


def _before_softplus(value: float) -> float:
    """The x with log(1 + eˣ) = value."""
    return float(np.log(np.expm1(max(value, 1e-6))))
