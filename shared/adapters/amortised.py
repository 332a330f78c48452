"""Amortised inference: a network reads each event and says what it adds to the fast weights.

After conditional neural processes (Garnelo et al., 2018) and Deep Sets (Zaheer et al., 2017): encode events
one by one, sum, normalise. The network is meta-learned; adapting is one pass through it, with no solve and no
step. Plain version: `shared.adapters.plain.signed_mean`.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from shared.adapters.base import Adapted, Support
from shared.adapters.evidence import EvidenceAdapter, whole_number

Tensor = Any
_MAX_WIDTH = 4096


class AmortisedAdapter(EvidenceAdapter):
    """δ_t = Σ_s w_s y_{s,t} (ψ_s + g(ψ_s, y_s)) / (λ + Σ_s w_s): a mean of signed rows, each bent by a
    network g of one hidden layer, which starts at 0. Targets y and weights w as in `EvidenceAdapter`.
    Of one person and events s: ψ_s [adapt_dim], y_s [2] by choice t, g: [adapt_dim + 2] → [adapt_dim].
    Returns `Adapted`: fast weights [B, 2, adapt_dim], factor [B, rank, adapt_dim], scale [B].

    What events have in common is not taken apart, as the ridge does; g can learn to, given people enough: on
    the 680 of MovieLens-100K it learns them by heart (on − off on three development splits +.0016 ± .0027
    NDCG@10, +.0001 at ten times the rate, and +.0026 with g left at 0). The posterior is the linear model's,
    which is the ridge's.
    """

    kind = "amortised"
    network_rate = 1e-4

    def __init__(self, *, hidden: int = 128, **shared: Any) -> None:
        """hidden: width of g's hidden layer; shared: as in `EvidenceAdapter`."""
        super().__init__(**shared)
        width = whole_number("hidden", hidden, at_least=1, at_most=_MAX_WIDTH)
        self.hidden = keras.layers.Dense(width, activation="gelu", name="hidden")
        self.bend = keras.layers.Dense(
            self.adapt_dim, use_bias=False, kernel_initializer="zeros", name="bend"
        )

    def build(self, input_shape: Any = None) -> None:
        super().build()
        self.hidden.build((None, self.adapt_dim + len(self.chosen)))
        self.bend.build((None, self.hidden.units))

    @property
    def network_variables(self) -> list[Any]:
        return [*self.hidden.trainable_variables, *self.bend.trainable_variables]

    def call(self, support: Support, state: Tensor) -> Adapted:
        evidence = self.evidence(support)
        rows, targets, weights, mask = evidence
        bent = rows + self.bend(self.hidden(tf.concat([rows, targets], axis=-1)))
        weights = weights * mask
        total = tf.nn.softplus(self.noise.value) + tf.reduce_sum(weights, axis=1)
        summed = tf.matmul(targets * weights[..., None], bent, transpose_a=True)
        return Adapted(summed / total[:, None, None], *self.posterior(*self.whiten(evidence), evidence.mask))
