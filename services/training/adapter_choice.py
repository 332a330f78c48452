"""What can be said of a choice of adapter without TensorFlow: its name, its settings' names, its scope.

The command line and the training service both ask it, so that a choice is refused before anything starts.
Values of settings are the adapters' own to judge (`shared.adapters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidInput, Violation, violation

HEAD, BODY = "head", "body"
# Names and settings of `shared.adapters`, which cannot be asked without TensorFlow; a test compares them.
# `gradient` comes in both scopes, and its setting `scope` says which is meant.
SETTINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    HEAD: {
        "ridge": ("chosen", "noise"),
        "gradient": ("chosen", "first_order", "learned_rates", "noise", "steps"),
        "amortised": ("chosen", "hidden", "noise"),
        "none": (),
    },
    BODY: {
        "finetune": ("rate", "rows", "steps"),
        "reptile": ("rate", "steps"),
        "gradient": ("first_order", "learned_rates", "rate", "steps"),
    },
}
ADAPTER_NAMES = tuple(dict.fromkeys([*SETTINGS[HEAD], *SETTINGS[BODY]]))
_NAME, _SETTINGS, _SCOPE = "--adapter", "--adapter-settings", "--adapter-settings['scope']"
_WHY = (
    "gives each person weights of their own, and an artifact serves all people by one signature; "
    "`warmstart evaluate` compares it"
)


def scopes_of(name: str) -> tuple[str, ...]:
    """Those that an adapter comes in, its default first."""
    return tuple(scope for scope, adapters in SETTINGS.items() if name in adapters)


def scope_of(name: str, settings: Mapping[str, Any]) -> str:
    """What of the model becomes a person's own: HEAD, fast weights, or BODY, all weights."""
    scope: str = settings.get("scope") or next(iter(scopes_of(name)), HEAD)
    return scope


def check_adapter(name: str, settings: Mapping[str, Any], *, served: bool) -> None:
    """Raises InvalidInput for settings that the adapter does not have and, where an artifact is to be
    `served`, for an adapter of the whole body. name: one of ADAPTER_NAMES."""
    broken = _broken_scope(name, settings, served) or _broken_settings(name, settings)
    if broken is not None:
        raise InvalidInput([broken])


def _broken_scope(name: str, settings: Mapping[str, Any], served: bool) -> Violation | None:
    scope, scopes = settings.get("scope"), scopes_of(name)
    if "scope" in settings and scope not in scopes:
        return violation(_SCOPE, f"must be {' or '.join(scopes)} for adapter {name}", scope)
    if not served or scope_of(name, settings) == HEAD:
        return None
    if HEAD in scopes:
        return violation(_SCOPE, f"must be {HEAD} for a model that is served: {BODY} {_WHY}", scope)
    *most, last = SETTINGS[HEAD]
    rule = f"must be one that can be exported ({', '.join(most)} or {last}): {name} of the whole body {_WHY}"
    return violation(_NAME, rule, name)


def _broken_settings(name: str, settings: Mapping[str, Any]) -> Violation | None:
    own = SETTINGS[scope_of(name, settings)][name]
    if set(settings) <= {*own, "scope"}:
        return None
    known = [*own, *(["scope"] if len(scopes_of(name)) > 1 else [])]
    rule = f"must fit adapter {name}, whose settings are {', '.join(sorted(known)) or 'none'}"
    return violation(_SETTINGS, rule, dict(settings))
