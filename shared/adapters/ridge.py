"""Closed-form ridge regression on the support set, in its dual form.

The meta-learned part is everything but the solve: ψ and φ, the noise λ and the age weights (after
R2-D2, Bertinetto et al., 2019, "Meta-learning with differentiable closed-form solvers"). Plain version:
`shared.adapters.plain.ridge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from shared.adapters.base import Adapted, Support
from shared.adapters.evidence import EvidenceAdapter

Tensor = Any


class RidgeAdapter(EvidenceAdapter):
    """δ = Ψᵀ (ΨΨᵀ + λ W⁻¹)⁻¹ y: the posterior mean of δ ~ N(0, s²I) given y = Ψδ + noise.

    With C Cᵀ = ΨΨᵀ + λW⁻¹ (newest event first), F = C⁻¹Ψ gives δ = Fᵀ(C⁻¹y) and the covariance
    s²(I − FᵀF). Targets y and weights W as in `EvidenceAdapter`.
    """

    def __init__(
        self, *, adapt_dim: int, rank: int, noise: float = 3.5, chosen: Sequence[float] = (0.75, 0.4)
    ) -> None:
        super().__init__(adapt_dim=adapt_dim, rank=rank, name="ridge", noise=noise, chosen=chosen)

    def call(self, support: Support, state: Tensor) -> Adapted:
        evidence = self.evidence(support)
        factor, white = self.whiten(evidence)
        fast_weights = tf.matmul(white, factor, transpose_a=True)
        return Adapted(fast_weights, *self.posterior(factor, white, evidence.mask))
