"""What every adapter takes and gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from shared.adapters.ratings import Ratings

Tensor = Any
NUM_CHOICES = 2


class Support(NamedTuple):
    """The events that fast weights of choices are made of, padded on the left.

    rows    [B, L, adapt_dim] float32  ψ of the events' items, zeros in padding
    actions [B, L]            int32    `Action` numbers, 0 in padding
    labels  [B, L]            float32  signed labels in [-1, 1]
    ages_s  [B, L]            float32  seconds from the event to the request
    mask    [B, L]            float32  1 = event, 0 = padding
    """

    rows: Tensor
    actions: Tensor
    labels: Tensor
    ages_s: Tensor
    mask: Tensor


class Adapted(NamedTuple):
    """Fast weights and their posterior: covariance scale² · (I − FᵀF).

    fast_weights [B, NUM_CHOICES, adapt_dim]; factor [B, rank, adapt_dim] F; scale [B].
    """

    fast_weights: Tensor
    factor: Tensor
    scale: Tensor


class Adapter(keras.layers.Layer):  # type: ignore[misc]
    """A function of the support set and the encoder's state; its variables are meta-learned.

    Called, it gives fast weights of choices; `star_weights` gives those of ratings, by the closed form that
    all adapters share: of a Gaussian linear model of stars the posterior mean is known.

    `learns_rows` says whether ψ and φ take part at all: training leaves them alone otherwise.
    `network_variables`: those that need as many people as ψ and φ do and learn with them, at `network_rate`.
    The others are a few numbers, which follow validation people.
    """

    learns_rows = True
    network_rate = 1e-3

    def __init__(self, *, adapt_dim: int, rank: int, name: str) -> None:
        super().__init__(name=name)
        self.adapt_dim = adapt_dim
        self.rank = rank

    @property
    def network_variables(self) -> list[Any]:
        return []

    @property
    def own_variables(self) -> list[Any]:
        """The few numbers."""
        network = {id(variable) for variable in self.network_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in network]

    def call(self, support: Support, state: Tensor) -> Adapted:
        """Adapts B people at once; a person with no events gets zeros and the prior's scale."""
        raise NotImplementedError

    def star_weights(self, ratings: Ratings) -> Tensor:
        """[B, R + 2]: zeros for people without ratings."""
        raise NotImplementedError
