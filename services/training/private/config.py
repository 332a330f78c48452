"""The sizes of a private model and how it is trained; chosen on public data, never on the data at hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.training.private.episodes import Contribution
from services.training.private.releases import POPULARITY, TOGETHER
from shared.artifacts import Mechanism
from shared.modeling.config import ModelConfig

GRADIENTS = "gradients"


@dataclass(frozen=True, slots=True)
class PrivateConfig:
    """dim, adapt_dim, feed_forward, blocks: of the model; the smaller, the less noise there is in all.

    steps: of gradients, to each of which a person contributes with probability `sampling`, clipped to
    `clip_norm`; rate, scale_rate: Adam's, of weights and of scales; body_from: the ε from which the weights
    of encoder and heads are trained too, below it scales alone; average: as in meta-training; like_weight: of
    that task's loss. items: the most popular ones, of which is told which are chosen together.
    popularity_noise, together_noise: noise of these releases where that of the gradients is 1: how the
    privacy is shared out.

    On development people of MovieLens-1M at ε = 4 (4,298 people, one seed, the mean of NDCG@10 over k >= 1):
    popularity .056, rows alone .111, with 45 scales .115, with all 9,887 weights .114; without noise, rows
    alone .1125 and with all weights .131.
    """

    dim: int = 32
    adapt_dim: int = 128
    feed_forward: int = 32
    blocks: int = 1
    steps: int = 60
    sampling: float = 0.1
    clip_norm: float = 1.0
    rate: float = 5e-3
    scale_rate: float = 5e-2
    body_from: float = 8.0
    average: float = 0.8
    like_weight: float = 0.5
    items: int = 400
    popularity_noise: float = 0.5
    together_noise: float = 0.3
    contribution: Contribution = field(default_factory=Contribution)

    def sizes(self, of: ModelConfig, content_dim: int) -> ModelConfig:
        """A model without what is not told privately: transitions, trends and ratings."""
        return replace(
            of,
            dim=self.dim,
            heads=2,
            blocks=self.blocks,
            feed_forward=self.feed_forward,
            adapt_dim=self.adapt_dim,
            uncertainty_rank=min(of.uncertainty_rank, self.adapt_dim),
            rating_dim=0,
            successors=0,
            trends=False,
            content_dim=content_dim,
            content_rank=min(64, content_dim),
            content_hidden=2 * min(64, content_dim),
        )

    def mechanisms(self, *, body: bool) -> tuple[Mechanism, ...]:
        """All that looks at people's events, with noise in proportion. body: whether the body is trained."""
        told = (
            Mechanism(POPULARITY, 1.0, self.popularity_noise),
            Mechanism(TOGETHER, 1.0, self.together_noise),
        )
        return (*told, Mechanism(GRADIENTS, self.clip_norm, 1.0, self.sampling, self.steps)) if body else told
