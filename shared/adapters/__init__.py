"""Adapters: one file per algorithm. An adapter turns a person's support events into fast weights.

    adapter = make_adapter("ridge", adapt_dim=128, rank=16)
    adapted = adapter(Support(rows, actions, labels, ages_s, mask), state)

A new algorithm is one new file, one line in `ADAPTERS` and one row in the conformance table of
`tests/contract/test_adapters.py`; no server changes. Those of `BODY_ADAPTERS` change all weights of the body
instead of adding fast weights: they serve the offline comparison and are refused here (see
`shared.adapters.body`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

from shared.adapters.amortised import AmortisedAdapter
from shared.adapters.base import Adapted, Adapter, Support
from shared.adapters.body import BodyAdapter
from shared.adapters.evidence import CHOSEN
from shared.adapters.finetune import FineTuneAdapter
from shared.adapters.gradient import GradientAdapter
from shared.adapters.maml import MamlAdapter
from shared.adapters.none import NoAdapter
from shared.adapters.ratings import Ratings
from shared.adapters.reptile import ReptileAdapter
from shared.adapters.ridge import RidgeAdapter
from shared.errors import InvalidInput

A = TypeVar("A")

ADAPTERS: Mapping[str, type[Adapter]] = {
    "none": NoAdapter,
    "ridge": RidgeAdapter,
    "gradient": GradientAdapter,
    "amortised": AmortisedAdapter,
}

BODY_ADAPTERS: Mapping[str, type[BodyAdapter]] = {
    "finetune": FineTuneAdapter,
    "reptile": ReptileAdapter,
    "gradient": MamlAdapter,
}
HEAD, BODY = "head", "body"
_SCOPES: Mapping[str, Mapping[str, Any]] = {HEAD: ADAPTERS, BODY: BODY_ADAPTERS}

__all__ = [
    "ADAPTERS",
    "BODY",
    "BODY_ADAPTERS",
    "CHOSEN",
    "HEAD",
    "Adapted",
    "Adapter",
    "BodyAdapter",
    "Ratings",
    "Support",
    "make_adapter",
    "make_body_adapter",
    "scope_of",
]


def scope_of(name: str, settings: Mapping[str, Any]) -> str:
    """What of the model becomes a person's own: HEAD, fast weights, or BODY, all weights. Setting `scope`
    says it of an adapter that comes in both. Raises InvalidInput for a name or scope that is not known."""
    scopes = [scope for scope, adapters in _SCOPES.items() if name in adapters]
    if not scopes:
        known = ", ".join(sorted({*ADAPTERS, *BODY_ADAPTERS}))
        raise InvalidInput.of("adapter", f"must be one of {known}", name)
    scope = str(settings.get("scope", scopes[0]))
    if scope not in scopes:
        rule = f"must be {' or '.join(scopes)} for adapter {name}"
        raise InvalidInput.of("adapter_settings['scope']", rule, settings["scope"])
    return scope


def make_adapter(name: str, *, adapt_dim: int, rank: int, **settings: Any) -> Adapter:
    """Builds an adapter that can be exported. Raises InvalidInput for a name or setting that is not known,
    and for adapters of the whole body."""
    if scope_of(name, settings) == BODY:
        why = (
            "gives each person a body of their own, and an artifact serves all people by one signature; "
            "`warmstart evaluate` compares it offline"
        )
        if name in ADAPTERS:
            rule = f"must be {HEAD} for an adapter that can be exported: {BODY} {why}"
            raise InvalidInput.of("adapter_settings['scope']", rule, BODY)
        rule = f"must be one that can be exported ({', '.join(sorted(ADAPTERS))}): {name} {why}"
        raise InvalidInput.of("adapter", rule, name)
    return _made(name, ADAPTERS[name], settings, adapt_dim=adapt_dim, rank=rank)


def make_body_adapter(name: str, **settings: Any) -> BodyAdapter:
    """Builds an adapter of the whole body. Raises InvalidInput for a name or setting that is not known."""
    if scope_of(name, settings) != BODY:
        rule = f"must be one of the whole body ({', '.join(sorted(BODY_ADAPTERS))}, with scope body)"
        raise InvalidInput.of("adapter", rule, name)
    return _made(name, BODY_ADAPTERS[name], settings)


def _made(name: str, kind: Callable[..., A], settings: Mapping[str, Any], **sizes: int) -> A:
    own = {setting: value for setting, value in settings.items() if setting != "scope"}
    try:
        return kind(**sizes, **own)
    except TypeError as error:
        both = ["scope"] if all(name in adapters for adapters in _SCOPES.values()) else []
        known = ", ".join(sorted([*_settings_of(kind, sizes), *both])) or "none"
        rule = f"must fit adapter {name}, whose settings are {known}"
        raise InvalidInput.of("adapter_settings", rule, own) from error


def _settings_of(kind: Any, sizes: Mapping[str, int]) -> list[str]:
    """Names of what its classes take by keyword, but for the sizes."""
    classes = [each for each in kind.__mro__ if each.__module__.startswith(__name__)]
    parameters = [p for each in classes for p in signature(each.__init__).parameters.values()]
    return sorted({p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - set(sizes) - {"name"})
