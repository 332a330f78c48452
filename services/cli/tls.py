"""With which certificates servers are called: those given, else the local cluster's, else without TLS."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from services.cli.certificates import OPERATOR, files_of
from services.cli.failures import CommandError
from shared.settings import TlsFiles
from shared.tls import TlsSource, source_of

CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE = "WARMSTART_TLS_CA", "WARMSTART_TLS_CERT", "WARMSTART_TLS_KEY"
_PANEL = "TLS"
# Of the running command; `given` stands, whichever cluster is found.
_given: ContextVar[TlsFiles | None] = ContextVar("tls_given", default=None)
_found: ContextVar[TlsFiles | None] = ContextVar("tls_found", default=None)


def options(
    ca: Annotated[
        str,
        typer.Option(
            "--tls-ca",
            envvar=CA_VARIABLE,
            metavar="FILE",
            help="Call servers with TLS: they must show a certificate that an authority of this file signed. "
            "A local cluster's own certificates are found by themselves.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    cert: Annotated[
        str,
        typer.Option(
            "--tls-cert",
            envvar=CERT_VARIABLE,
            metavar="FILE",
            help="Certificate to show to them.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            "--tls-key",
            envvar=KEY_VARIABLE,
            metavar="FILE",
            help="Its private key.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = "",
) -> None:
    """Before any command: notes the files. Raises CommandError where they do not go together."""
    if bool(cert) != bool(key):
        raise CommandError(f"--tls-cert and --tls-key go together, got {cert or key!r} alone")
    if cert and not ca:
        raise CommandError(f"--tls-ca must be given where --tls-cert is, got {cert!r} alone")
    names = ("--tls-cert", "--tls-key", "--tls-ca")
    _given.set(TlsFiles(cert, key, ca, names) if ca else None)
    _found.set(None)


def use_certificates(directory: Path) -> None:
    """Those of the local cluster that the running command calls, unless others are given."""
    _found.set(files_of(directory, OPERATOR))


def source() -> TlsSource | None:
    """For channels; None = without TLS. Raises SettingsError where the files are not good."""
    return source_of(_files())


def environment() -> dict[str, str]:
    """The same for a training, which reads the training service's settings."""
    files = _files()
    if files is None:
        return {}
    told = {"CERT": files.cert, "KEY": files.key, "CA": files.ca}
    return {f"WARMSTART_TRAINING_TLS_{name}": path for name, path in told.items()}


def _files() -> TlsFiles | None:
    return _given.get() or _found.get()
