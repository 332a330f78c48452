"""A few steps of gradient descent on the support set: MAML's inner loop on the head.

After ANIL (Raghu et al., 2020, "Rapid learning or feature reuse?"), which shows that MAML (Finn et al., 2017)
adapts by its head: here the head's change δ alone, on rows ψ and φ that are meta-learned through the steps.
Settings give its relatives: `first_order` leaves second derivatives out (first-order MAML, Nichol et al.,
2018), `learned_rates` has one learned rate a dimension (Meta-SGD, Li et al., 2017). MAML of the whole body is
no function of the support rows and has no place in an artifact. Plain version:
`shared.adapters.plain.descend`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from shared.adapters.base import NUM_CHOICES, Adapted, Support
from shared.adapters.evidence import Evidence, EvidenceAdapter, flag, whole_number

Tensor = Any
_MAX_STEPS = 50


class GradientAdapter(EvidenceAdapter):
    """δ₀ = 0, δ_{j+1} = δ_j − η ⊙ (Ψᵀ W (Ψδ_j − y) + λδ_j) / size: `steps` steps down the squared error of
    the signed targets with weight decay λ. Targets y and weights W as in `EvidenceAdapter`.

    size = λ + the largest row sum of |W^½ΨΨᵀW^½|, a bound of the loss's curvature (Gershgorin), and rates η
    lie in (0, 2): a step never diverges, whatever a history holds. The start is 0 because the body's own
    query, learned without this loop, is what the head starts from.

    Of one person and n events: Ψ [n, adapt_dim], W [n, n] diagonal, y [n, 2] by choice, δ [adapt_dim, 2], η a
    number or [adapt_dim]. Returns `Adapted`: fast weights [B, 2, adapt_dim], factor [B, rank, adapt_dim],
    scale [B].

    The posterior is Laplace's at the minimum that the steps head for, which is the ridge's.
    """

    kind = "gradient"

    def __init__(
        self, *, steps: int = 5, first_order: bool = False, learned_rates: bool = False, **shared: Any
    ) -> None:
        """steps: 1 to 50; learned_rates: a rate for each dimension instead of one for all; shared: as in
        `EvidenceAdapter`."""
        super().__init__(**shared)
        self.steps = whole_number("steps", steps, at_least=1, at_most=_MAX_STEPS)
        self.first_order = flag("first_order", first_order)
        self.learned_rates = flag("learned_rates", learned_rates)

    def build(self, input_shape: Any = None) -> None:
        super().build()
        shape = (self.adapt_dim,) if self.learned_rates else ()
        self.rate = self.add_weight(name="rate", shape=shape, initializer="zeros")  # η = 2σ(rate) = 1

    @property
    def network_variables(self) -> list[Any]:
        return [self.rate] if self.learned_rates else []

    def call(self, support: Support, state: Tensor) -> Adapted:
        evidence = self.evidence(support)
        factor, white = self.whiten(evidence)
        fast_weights = self._descend(evidence)
        return Adapted(fast_weights, *self.posterior(factor, white, evidence.mask))

    def _descend(self, evidence: Evidence) -> Tensor:
        """[B, T, A]."""
        rows, targets, weights, mask = evidence
        noise = tf.nn.softplus(self.noise.value)
        weights = (weights * mask)[..., None]
        scaled = rows * tf.sqrt(weights)
        curvature = tf.reduce_sum(tf.abs(tf.matmul(scaled, scaled, transpose_b=True)), axis=2)
        size = noise + tf.reduce_max(curvature, axis=1)
        pace = 2.0 * tf.sigmoid(self.rate.value) / size[:, None, None]
        delta = tf.zeros([tf.shape(mask)[0], NUM_CHOICES, self.adapt_dim])
        for _ in range(self.steps):
            # First order: the gradient's own change with δ is left out of the outer gradient.
            now, explained = delta, tf.matmul(rows, delta, transpose_b=True)
            if self.first_order:
                now, explained = tf.stop_gradient(now), tf.stop_gradient(explained)
            slope = tf.matmul(weights * (explained - targets), rows, transpose_a=True)
            delta -= pace * (slope + noise * now)
        return delta
