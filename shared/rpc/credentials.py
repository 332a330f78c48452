"""TLS of gRPC's servers and channels, made of PEM files; who may call by the names in its certificate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from shared.errors import PermissionDenied
from shared.tls import TlsPem, TlsSource


def server_credentials(source: TlsSource) -> grpc.ServerCredentials:
    """A server's, with the files as they are when a connection begins; those that are open stay.

    Callers must show a certificate where the source has authorities (`ca`).
    """
    taken_up = source.pem

    def changed() -> Any:
        """A ServerCertificateConfiguration, None = as before; gRPC asks at each handshake, on a thread."""
        nonlocal taken_up
        found = source.look()
        if found is taken_up:
            return None
        taken_up = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(taken_up), changed, require_client_authentication=bool(source.files.ca)
    )


def channel_credentials(pem: TlsPem) -> grpc.ChannelCredentials:
    """A channel's: whom it believes, and what it shows where it has a certificate."""
    return grpc.ssl_channel_credentials(pem.ca or None, pem.key or None, pem.cert or None)


def _configuration(pem: TlsPem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.ca or None)


@dataclass(frozen=True, slots=True)
class KnownClients:
    """Whose calls a server takes, by a name in the caller's certificate. names: () = whoever got so far."""

    server: str
    names: frozenset[str]

    @classmethod
    def of(cls, server: str, names: Iterable[str]) -> KnownClients:
        return cls(server, frozenset(names))

    def check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raises PermissionDenied."""
        if not self.names:
            return
        found = context.auth_context().get("x509_subject_alternative_name", ())
        shown = [name.decode(errors="replace") for name in found]
        if self.names.isdisjoint(shown):
            raise PermissionDenied(
                f"the caller's certificate must hold a name that {self.server} takes calls from, "
                f"got {', '.join(shown) or 'none'}"
            )
