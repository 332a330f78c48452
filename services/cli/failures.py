"""How a command fails: one message for people, a code for programs, never a traceback."""

from __future__ import annotations

from shared.errors import (
    DeadlinePassed,
    InvalidInput,
    NoModel,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
    WarmstartError,
)

# In gRPC's own words.
_NO_TLS_THERE = "WRONG_VERSION_NUMBER"
_NO_SUCH_METHOD = "UNIMPLEMENTED: "


class CommandError(WarmstartError):
    """A command cannot go on; the message says what to do next."""

    reason = "COMMAND"


_NEXT_STEPS: tuple[tuple[type[WarmstartError], str], ...] = (
    (NoModel, "no model is serving yet: train one with `warmstart train`"),
    (
        Unavailable,
        "is the cluster up? start it with `warmstart up`, or say where it is with --gateway HOST:PORT; "
        "where it wants TLS, give --tls-ca, --tls-cert and --tls-key before the command",
    ),
    (
        DeadlinePassed,
        "try again in a moment; the servers' logs tell what hangs, where `warmstart up` said",
    ),
    (Overloaded, "try again in a moment, with less at once"),
    (QuotaExceeded, "ask for less, or for a key with a higher --rate"),
    (
        Unauthenticated,
        "set WARMSTART_KEY to a key that is good there: `warmstart keys create` makes one, and "
        "`warmstart keys list` shows which are",
    ),
    (PermissionDenied, "take a key made with that --scope and --domain: `warmstart keys create --help`"),
)


def explain(error: WarmstartError, gateway: str = "") -> str:
    """What went wrong and what to do next, a line each."""
    lines = [v.description for v in error.violations] if isinstance(error, InvalidInput) else [str(error)]
    if not isinstance(error, (CommandError, NotFound)):
        lines[0] = f"{error.reason}: {lines[0]}" if error.reason != "INTERNAL" else lines[0]
    step = _next_step(error)
    if gateway and isinstance(error, Unavailable):
        lines.append(f"gateway: {gateway}")
    return "\n".join([*lines, step] if step else lines)


def _next_step(error: WarmstartError) -> str:
    if isinstance(error, Unavailable) and _NO_TLS_THERE in str(error):
        return (
            "what answers there speaks no TLS, and was called with it: leave --tls-ca out (WARMSTART_TLS_CA "
            "unset), or say where the server with TLS is with --gateway HOST:PORT or --service HOST:PORT"
        )
    if str(error).startswith(_NO_SUCH_METHOD):
        return (
            "the server there does not know this call: is it another service's port, or an older version? "
            "Say where the gateway is with --gateway HOST:PORT, or the training service is with --service"
        )
    return next((text for cls, text in _NEXT_STEPS if isinstance(error, cls)), "")
