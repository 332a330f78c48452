"""The metrics port: what Prometheus scrapes, with TLS where the server has it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from shared.errors import SettingsError
from shared.telemetry.logs import logger
from shared.tls import TlsPem, TlsSource

# A scraper that connects and says nothing keeps its thread no longer.
_PATIENCE_S = 10.0
_LOG = logger("metrics")


class _Quiet(WSGIRequestHandler):
    """Logs no scrapes. Handshakes are made here, on the scrape's own thread."""

    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingWSGIServer):
    """A scrape a thread. Certificates are taken up as they are when a scrape begins."""

    tls: _Tls | None = None

    def get_request(self) -> tuple[Any, Any]:
        accepted, address = super().get_request()
        return (accepted if self.tls is None else self.tls.around(accepted)), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("scrape failed", exc_info=True)


class _Tls:
    """Python's TLS of the files that gRPC's is made of."""

    def __init__(self, source: TlsSource) -> None:
        self._source = source
        self._pem: TlsPem = source.pem
        self._context = self._made()

    def around(self, accepted: socket.socket) -> socket.socket:
        found = self._source.look()
        if found is not self._pem:
            try:
                self._context, self._pem = self._made(), found
            except (ssl.SSLError, OSError):  # changed again in between: the next scrape sees how
                _LOG.debug("certificates of metrics not taken up yet", exc_info=True)
        return self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)

    def _made(self) -> ssl.SSLContext:
        files = self._source.files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca or None)
        context.load_cert_chain(files.cert, files.key)
        context.verify_mode = ssl.CERT_REQUIRED if files.ca else ssl.CERT_NONE
        return context


@contextmanager
def exposed(
    registry: CollectorRegistry, host: str, port: int, tls: TlsSource | None = None
) -> Iterator[int | None]:
    """Serves `/metrics` on its own thread; port 0 takes a free one, -1 serves nothing. Yields the port."""
    if port < 0:
        yield None
        return
    try:
        server = _bound(host, port)
    except OSError as error:
        raise SettingsError(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error
    server.tls = _Tls(tls) if tls else None
    server.set_app(make_wsgi_app(registry))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _bound(host: str, port: int) -> _Server:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    class Bound(_Server):
        address_family = found[0]

    return Bound((host, port), _Quiet)
