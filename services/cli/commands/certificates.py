"""`warmstart certificates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import options, output
from services.cli.certificates import write_certificates

EXAMPLES = options.examples(
    "warmstart certificates tls", "warmstart certificates tls --days 30 --host shop.internal"
)


def certificates(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are written.")],
    days: Annotated[int, typer.Option(help="Days for which certificates are good.", min=1, max=3650)] = 90,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or address that servers are called by besides localhost; repeat for more. "
            "Those of before stay."
        ),
    ] = None,
) -> None:
    """Make a private authority and a certificate for each service, for `warmstart up --tls DIR`.

    Once more, it renews the certificates by the same authority; running servers take them up.
    """
    names = write_certificates(directory, days=days, hosts=host or ())
    console = output.stdout()
    console.print(
        f"{directory}: ca, {', '.join(names)}; keep the files *-key.pem to yourself", soft_wrap=True
    )
