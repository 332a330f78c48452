"""Where the store is, and clients for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.asyncio.cluster import ValkeyCluster

from shared.settings import TlsFiles


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is and how long to wait for it. tls: what a store with TLS is met with; read once."""

    url: str
    cluster: bool = False
    timeout_s: float = 5.0
    connect_timeout_s: float = 2.0
    max_connections: int = 64
    tls: TlsFiles | None = None

    @property
    def tls_options(self) -> dict[str, Any]:
        """For the client; its own default would believe any host that the authorities signed."""
        if self.tls is None:
            return {}
        given = {"ssl_ca_certs": self.tls.ca, "ssl_certfile": self.tls.cert, "ssl_keyfile": self.tls.key}
        return {"ssl_check_hostname": True, **{name: file for name, file in given.items() if file}}


def safe_url(url: str) -> str:
    """The address without user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def connected(address: StoreAddress) -> Valkey | ValkeyCluster:
    """A client with a pool of connections; connects at the first command."""
    if address.cluster:
        cluster = ValkeyCluster.from_url(
            address.url,
            socket_timeout=address.timeout_s,
            socket_connect_timeout=address.connect_timeout_s,
            max_connections=address.max_connections,
            require_full_coverage=False,
            cluster_error_retry_attempts=1,
            **address.tls_options,
        )
        for name in [n for n in cluster.response_callbacks if not n.startswith(("CLUSTER", "COMMAND"))]:
            del cluster.response_callbacks[name]
        return cluster
    pool = BlockingConnectionPool.from_url(
        address.url,
        max_connections=address.max_connections,
        timeout=address.timeout_s,
        socket_timeout=address.timeout_s,
        socket_connect_timeout=address.connect_timeout_s,
        **address.tls_options,
    )
    return raw_replies(Valkey(connection_pool=pool))


def single(address: StoreAddress, *, node: tuple[str, int] | None = None, wait_s: float = 0.0) -> Valkey:
    """A client for calls that wait up to `wait_s` seconds. node: host and port of a cluster's node."""
    return raw_replies(
        Valkey.from_url(
            address.url if node is None else url_of_node(address.url, *node),
            socket_timeout=address.timeout_s + wait_s,
            socket_connect_timeout=address.connect_timeout_s,
            **address.tls_options,
        )
    )


def url_of_node(url: str, host: str, port: int) -> str:
    """The same URL (scheme, user, password, options) for another host."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{user}{at}{shown}:{port}"))


def raw_replies(client: Valkey) -> Valkey:
    """Replies as the server sends them: no conversion to dicts and the like."""
    client.response_callbacks.clear()
    return client
