"""A command whose options say one thing once, and are refused with the value that they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from services.cli.credentials import with_key


class OnceCommand(TyperCommand):
    """Refuses an option given twice that can be given once: the parser would keep the last one in silence.

    One that calls a server also takes --key.
    """

    def __init__(self, *arguments: Any, params: list[Any] | None = None, **settings: Any) -> None:
        super().__init__(*arguments, params=with_key(params or []), **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(order).items():
            single = isinstance(parameter, TyperOption) and not (parameter.multiple or parameter.is_flag)
            if single and times > 1:
                ctx.fail(f"{parameter.opts[0]} is given {times} times, and can be given once")
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _with_value(error, given)
            raise
        for parameter in self.params:
            _refuse_broken_text(ctx, parameter)
        return rest


def _refuse_broken_text(ctx: Any, parameter: Any) -> None:
    """Bytes that are no UTF-8 can be in a path, but in no message."""
    given = ctx.params.get(parameter.name)
    for value in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            said = f"must be UTF-8 text, got {value[:40]!r}"
            raise typer.BadParameter(said, ctx=ctx, param=parameter)


def _with_value(error: typer.BadParameter, given: Mapping[str, Any]) -> str:
    """``Input should be greater than or equal to 1`` → ``must be …, got '0'``."""
    said = str(error.message).replace("Input should be", "must be").removeprefix("Value error, ")
    value = given.get(getattr(error.param, "name", None) or "")
    return said if value is None or repr(value) in said else f"{said.rstrip('.')}, got {value!r}"


class OnceTyper(typer.Typer):
    """An app of such commands."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, **{"cls": OnceCommand, **settings})
