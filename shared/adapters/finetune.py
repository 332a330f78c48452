"""Plain transfer: the finished body, fine-tuned for one person.

After Yosinski et al. (2014, "How transferable are features in deep neural networks?") and Howard & Ruder
(2018, "Universal language model fine-tuning for text classification"): take what was learned on everybody, go
on training it on the little there is of one. Nothing is meta-learned; how far to go is chosen on validation
people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.adapters.body import BodyAdapter
from shared.adapters.evidence import flag
from shared.errors import InvalidInput

_STEPS = (1, 4)
_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


class FineTuneAdapter(BodyAdapter):
    """θ₀ = θ, θ_{j+1} = θ_j − η ∇L_support(θ_j): `steps` steps down the loss of predicting each support event
    from those before it. θ [P]: encoder and heads; with `rows` also e [N, D], v [N, D] and b [N, T] of the
    catalogue.

    Plain gradient steps: Adam's first ones have the same length for every weight, wherever the gradient is
    small for want of evidence.
    """

    kind = "finetune"
    meta_learned = False

    def __init__(
        self,
        *,
        steps: int | Sequence[int] = _STEPS,
        rate: float | Sequence[float] = _RATES,
        rows: bool = False,
    ) -> None:
        """steps, rate: one, or several to choose from; rows: whether item rows are fine-tuned too."""
        self._grid = [(s, r) for r in _several("rate", rate) for s in _several("steps", steps)]
        for one in reversed(self._grid):  # all of them are judged, and the mildest stays
            super().__init__(steps=one[0], rate=one[1])
        self.rows = flag("rows", rows)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "rows": self.rows}

    def choices(self) -> Sequence[BodyAdapter]:
        return [FineTuneAdapter(steps=steps, rate=rate, rows=self.rows) for steps, rate in self._grid]


def _several(name: str, value: Any) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise InvalidInput.of(f"adapter_settings[{name!r}]", "must be a number or several", value)
    return values
