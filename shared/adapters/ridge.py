"""Closed-form ridge regression on the support set, in its dual form.

The meta-learned part is everything but the solve: ψ and φ, the noise λ and the age weights (after
R2-D2, Bertinetto et al., 2019, "Meta-learning with differentiable closed-form solvers"). Plain version:
`shared.adapters.plain.ridge`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from shared.adapters.base import Adapted, Support
from shared.adapters.evidence import EvidenceAdapter

Tensor = Any


class RidgeAdapter(EvidenceAdapter):
    """δ = Ψᵀ (ΨΨᵀ + λ W⁻¹)⁻¹ y: the posterior mean of δ ~ N(0, s²I) given y = Ψδ + noise.

    With C Cᵀ = ΨΨᵀ + λW⁻¹ (newest event first), F = C⁻¹Ψ gives δ = Fᵀ(C⁻¹y) and the covariance
    s²(I − FᵀF). Targets y and weights W as in `EvidenceAdapter`.

    Of one person and n events: Ψ and F [n, adapt_dim], W [n, n] diagonal, y [n, 2] by choice, δ
    [adapt_dim, 2]. Returns `Adapted`: fast weights [B, 2, adapt_dim], of F the newest `rank` rows, s [B].
    """

    kind = "ridge"

    def call(self, support: Support, state: Tensor) -> Adapted:
        evidence = self.evidence(support)
        factor, white = self.whiten(evidence)
        fast_weights = tf.matmul(white, factor, transpose_a=True)
        return Adapted(fast_weights, *self.posterior(factor, white, evidence.mask))
