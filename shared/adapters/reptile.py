"""Reptile: a body from which a few steps lead far, found by walking towards where they lead.

After Nichol, Achiam & Schulman (2018, "On first-order meta-learning algorithms"). The outer loop needs no
gradient through the inner one.
"""

from __future__ import annotations

import tensorflow as tf

from shared.adapters.body import BodyAdapter, Episode, Pace, Tensor, descend


class ReptileAdapter(BodyAdapter):
    """Inner: θ_{j+1} = θ_j − η ∇L(θ_j). Outer: θ ← θ + ε (θ′ − θ), θ′ after the inner steps. θ [P].

    In meta-training the inner steps go down the support's loss and the query's in turn, two mini-batches of a
    person: what Reptile gains over training on everybody is the inner product of gradients of different
    mini-batches (§5.1 of the paper). A person who is served has the support alone.

    ½‖θ − θ′‖² with θ′ held fixed has the gradient θ − θ′, so that any optimiser takes the outer step (§2 of
    the paper: the difference as a gradient for Adam).
    """

    kind = "reptile"

    def __init__(self, *, steps: int = 3, rate: float = 0.003) -> None:
        super().__init__(steps=steps, rate=rate)

    def outer_loss(self, episode: Episode, weights: Tensor, pace: Pace) -> Tensor:
        after = descend(episode, weights, pace)
        return 0.5 * tf.reduce_sum((weights - tf.stop_gradient(after)) ** 2)
