"""Adapters: one file per algorithm. An adapter turns a person's support events into fast weights.

    adapter = make_adapter("ridge", adapt_dim=128, rank=16)
    adapted = adapter(Support(rows, actions, labels, ages_s, mask), state)

A new algorithm is one new file, one line in `ADAPTERS` and one row in the conformance table of
`tests/contract/test_adapters.py`; no server changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.adapters.amortised import AmortisedAdapter
from shared.adapters.base import Adapted, Adapter, Support
from shared.adapters.gradient import GradientAdapter
from shared.adapters.none import NoAdapter
from shared.adapters.ridge import RidgeAdapter
from shared.errors import InvalidInput

ADAPTERS: Mapping[str, type[Adapter]] = {
    "none": NoAdapter,
    "ridge": RidgeAdapter,
    "gradient": GradientAdapter,
    "amortised": AmortisedAdapter,
}

__all__ = ["ADAPTERS", "Adapted", "Adapter", "Support", "make_adapter"]


def make_adapter(name: str, *, adapt_dim: int, rank: int, **settings: Any) -> Adapter:
    """Builds an adapter by name. Raises InvalidInput for a name or setting that is not known."""
    if name not in ADAPTERS:
        raise InvalidInput.of("adapter", f"must be one of {', '.join(sorted(ADAPTERS))}", name)
    try:
        return ADAPTERS[name](adapt_dim=adapt_dim, rank=rank, **settings)
    except TypeError as error:
        raise InvalidInput.of("adapter_settings", f"must fit adapter {name}", settings) from error
