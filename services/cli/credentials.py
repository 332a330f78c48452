"""The credential that commands send with every call: a key or a token, by --key or WARMSTART_KEY."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from typer.main import get_command

from services.cli import output, tls
from services.cli.failures import CommandError
from shared.auth.settings import is_loopback

VARIABLE = "WARMSTART_KEY"
_FLAG = "--key"
# What HTTP takes as a bearer token (RFC 6750 §2.1).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# Commands whose parameters name a server that they call.
_CALLING = {"gateway", "service"}

_given: ContextVar[str] = ContextVar("credential", default="")


def with_key(parameters: list[Any]) -> list[Any]:
    """A command's parameters, with --key where it calls a server."""
    calls = any(parameter.name in _CALLING for parameter in parameters)
    return [*parameters, _option()] if calls else parameters


def credential_for(target: str) -> str:
    """What to send to the server at "host:port"; "" = nothing. Says so where others could read it on its way.

    Raises CommandError where it cannot be a key or token, without showing it.
    """
    credential = (_given.get() or os.environ.get(VARIABLE, "")).strip()
    if not credential:
        return ""
    if not _TOKEN.fullmatch(credential):
        raise CommandError(f"{_FLAG} or {VARIABLE} must be a key or a token: letters, digits and -._~+/=")
    if tls.source() is None and not _stays_here(target):
        output.stderr().print(
            f"the key goes to {output.escaped(target)} unencrypted: whoever sees the traffic can use it",
            style="yellow",
            soft_wrap=True,
        )
    return credential


def _note(context: typer.Context, value: str) -> str:
    before = _given.set(value)
    context.call_on_close(lambda: _given.reset(before))
    return value


Key = Annotated[
    str,
    typer.Option(
        _FLAG,
        envvar=VARIABLE,
        metavar="KEY",
        help="Key or token to call with. Better by the environment: other users of this machine see the "
        "options of a command that runs.",
        callback=_note,
        expose_value=False,
        show_default=False,
        rich_help_panel="Where",
    ),
]


def _option() -> Any:
    """As typer makes it of a command's parameter."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def calling(credential: Key = "") -> None: ...

    (option,) = get_command(app).params
    return option


def _stays_here(target: str) -> bool:
    """Whether no address of the target lies outside of this machine."""
    if target.startswith("unix:"):
        return True
    addresses = re.sub("^(ipv4|ipv6|dns):/*", "", target).split(",")
    return all(is_loopback(a.strip().rpartition(":")[0].strip("[]")) for a in addresses)
