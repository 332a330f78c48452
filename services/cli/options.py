"""The options that commands share, once."""

from __future__ import annotations

import shlex
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from shared.domain import DEFAULT_DOMAIN

GATEWAY_VARIABLE = "WARMSTART_GATEWAY"
SERVICE_VARIABLE = "WARMSTART_TRAINING_SERVICE"
# In place of HOST:PORT: the one that `warmstart up` runs on the data directory.
LOCAL = "local"
DATA_DIR_VARIABLE = "WARMSTART_DATA_DIR"
_WHERE = "Where"

# A command gets the option's value alone; typer tells only a callback where it came from.
_data_dir_given: ContextVar[bool] = ContextVar("data_dir_given", default=False)


def data_dir_is_given() -> bool:
    """Whether the running command got its data directory by option or environment; False outside of one."""
    return _data_dir_given.get()


def _note_whether_given(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    source = context.get_parameter_source(parameter.name or "")
    given = source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
    before = _data_dir_given.set(given)
    context.call_on_close(lambda: _data_dir_given.reset(before))
    return value


Gateway = Annotated[
    str,
    typer.Option(
        "--gateway",
        envvar=GATEWAY_VARIABLE,
        metavar="HOST:PORT",
        help="Gateway to call; by default the cluster that `warmstart up` runs on this data directory, "
        "or 127.0.0.1:20051 where no data directory is named.",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
Service = Annotated[
    str,
    typer.Option(
        "--service",
        envvar=SERVICE_VARIABLE,
        metavar="HOST:PORT",
        help="Training service to call; by default that of the cluster that `warmstart up` runs on this data "
        "directory, or 127.0.0.1:20055 where no data directory is named.",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
InService = Annotated[
    str,
    typer.Option(
        "--service",
        metavar="HOST:PORT",
        help="Do it in this training service instead; `local` is the one that `warmstart up` runs on this "
        "data directory.",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
Domain = Annotated[
    str,
    typer.Option("--domain", envvar="WARMSTART_DOMAIN", help="Tenant or scenario.", rich_help_panel=_WHERE),
]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar=DATA_DIR_VARIABLE,
        help="The local cluster's data: store, models, logs.",
        callback=_note_whether_given,
        file_okay=False,
        rich_help_panel=_WHERE,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]

DOMAIN = DEFAULT_DOMAIN
DATA_DIR = Path("var")


def examples(*lines: str) -> str:
    """The epilogue of a command's help: runnable examples, one a line."""
    return "Examples:\n\n" + "\n\n".join(f"  $ {line}" for line in lines)


def same_place(data_dir: Path) -> str:
    """What makes another command mean the same cluster; nothing where it does by itself."""
    return "" if data_dir.resolve() == DATA_DIR.resolve() else f" --data-dir {shlex.quote(str(data_dir))}"
