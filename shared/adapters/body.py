"""Adapters of the whole body: every weight of encoder and heads becomes the person's own.

Fast weights δ are a function of the support rows, so they travel inside an artifact. Weights of the whole
body differ from person to person, and serving has one signature for all people: these adapters are for
offline comparison alone, and `make_adapter` refuses them. They know no model: a person is a loss, a body one
vector of weights.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from shared.adapters.evidence import number, whole_number

Tensor = Any
# Weights θ [P] → a scalar.
Loss = Callable[[Tensor], Tensor]

_MAX_STEPS = 50
# A step of this length times a gradient leaves any body in pieces.
_MAX_RATE = 10.0


class Episode(NamedTuple):
    """One person's losses as functions of the weights.

    support: of each support event, given those before it; query: of the query events, given the support.
    """

    support: Loss
    query: Loss


class Pace(NamedTuple):
    """How a person's weights are gone to: `steps` () int32 and the rates η, () or [P] float32."""

    steps: Tensor
    rates: Tensor


class BodyAdapter(ABC):
    """θ → θ′ by a few steps of gradient descent on a person's support loss.

    rows: θ holds the item rows e, v and b too; meta_learned: whether θ is first trained by `outer_loss`;
    learned_rates: whether the rates are trained with it, one a weight.
    """

    kind: ClassVar[str]  # its name in `BODY_ADAPTERS`
    meta_learned: ClassVar[bool] = True
    rows = False
    learned_rates = False

    def __init__(self, *, steps: int, rate: float) -> None:
        """steps: 1 to 50; rate: η, at the start where it is learned, above 0 and at most 10."""
        self.steps = whole_number("steps", steps, at_least=1, at_most=_MAX_STEPS)
        self.rate = number("rate", rate, above=0.0, at_most=_MAX_RATE)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, by name."""
        return {"steps": self.steps, "rate": self.rate}

    def choices(self) -> Sequence[BodyAdapter]:
        """Those among which validation people choose."""
        return (self,)

    def pace(self, num_weights: int) -> Pace:
        """As it is before anything is learned."""
        shape = (num_weights,) if self.learned_rates else ()
        return Pace(np.int32(self.steps), np.full(shape, self.rate, np.float32))

    def adapt(self, support: Loss, weights: Tensor, pace: Pace) -> Tensor:
        """A person's own weights. [P] → [P]; the same where there is no support."""
        return descend((support,), weights, pace)

    def outer_loss(self, episode: Episode, weights: Tensor, pace: Pace) -> Tensor:
        """What meta-training descends, of one person's episode; a scalar."""
        raise NotImplementedError


def descend(losses: Sequence[Loss], weights: Tensor, pace: Pace, *, first_order: bool = True) -> Tensor:
    """θ ← θ − η ⊙ ∇L(θ) down each of the losses in turn, `steps` times over. [P] → [P].

    first_order: to an outer gradient each ∇L(θ) is a constant, whatever θ is.
    """

    def down(at: Tensor, loss: Loss) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = loss(at)
        slope = tape.gradient(value, at, unconnected_gradients="zero")
        return at - pace.rates * (tf.stop_gradient(slope) if first_order else slope)

    def once(number: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        for loss in losses:
            at = down(at, loss)
        return number + 1, at

    # A loop of the graph: it is traced once, however many steps there are.
    return tf.while_loop(lambda number, _: number < pace.steps, once, (tf.constant(0), weights))[1]
