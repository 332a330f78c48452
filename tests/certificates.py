"""Certificates for tests: an authority of their own, and files that can be renewed while they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from shared.settings import TlsFiles
from shared.tls import TlsSource


@dataclass
class Pki:
    """A certificate authority and where its files are."""

    directory: Path
    ca: trustme.CA = field(default_factory=lambda: trustme.CA(key_type=trustme.KeyType.ECDSA))

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca.cert_pem.write_to_path(str(self.ca_file))

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, name: str, *names: str, days: float = 30.0) -> None:
        """Writes `name`.pem and `name`-key.pem, over those of before. names: besides its own."""
        until = datetime.now(UTC) + timedelta(days=days)
        issued = self.ca.issue_cert(
            name,
            *names,
            not_before=until - timedelta(days=60),
            not_after=until,
            key_type=trustme.KeyType.ECDSA,
        )
        issued.private_key_pem.write_to_path(str(self.key(name)))
        self.key(name).chmod(0o600)
        self.cert(name).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def cert(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}-key.pem"

    def server(self, name: str, **more: Any) -> dict[str, Any]:
        """Settings of a server that shows this certificate and asks callers for theirs."""
        given = {"tls_cert": self.cert(name), "tls_key": self.key(name), "tls_client_ca": self.ca_file}
        return {key: str(path) for key, path in given.items()} | more

    def client(self, name: str = "") -> TlsSource:
        """What a caller has: a certificate where it is named, and the authority."""
        if not name:
            return TlsSource(TlsFiles(ca=str(self.ca_file)))
        return TlsSource(TlsFiles(str(self.cert(name)), str(self.key(name)), str(self.ca_file)))
