"""The options that commands share, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.domain import DEFAULT_DOMAIN

GATEWAY_VARIABLE = "WARMSTART_GATEWAY"
DATA_DIR_VARIABLE = "WARMSTART_DATA_DIR"
_WHERE = "Where"

Gateway = Annotated[
    str,
    typer.Option(
        "--gateway",
        envvar=GATEWAY_VARIABLE,
        metavar="HOST:PORT",
        help="Gateway to call; by default the cluster that `warmstart up` runs on this data directory.",
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
