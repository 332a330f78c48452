"""Certificates and keys from PEM files: checked at start, read anew while the process runs.

Whoever renews certificates replaces the files, one by one or all at once (Kubernetes swaps a symlink). A new
pair is taken up where it is good; until it is, the old one stays.
"""

from __future__ import annotations

import stat
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from shared.errors import SettingsError
from shared.settings import TlsFiles
from shared.telemetry.logs import logger

# Whoever renews certificates does it earlier than this.
_SOON = timedelta(days=3)
_LOG = logger("tls")


@dataclass(frozen=True, slots=True)
class TlsPem:
    """What the files hold, checked; b"" where there is no file. expires: of the certificate shown, if any."""

    cert: bytes = b""
    key: bytes = b""
    ca: bytes = b""
    expires: datetime | None = None


def read_tls(files: TlsFiles) -> TlsPem:
    """Raises SettingsError that names the setting, the rule and the file."""
    cert_name, key_name, ca_name = files.names
    chain, cert = _certificates(cert_name, files.cert)
    key = b""
    if chain:
        _check_valid(cert_name, files.cert, chain[0])
        key = _read(key_name, files.key)
        _check_pair(key_name, files, chain[0], key)
    authorities, ca = _certificates(ca_name, files.ca)
    if authorities and all(_expired(authority) for authority in authorities):
        _check_valid(ca_name, files.ca, authorities[0])
    return TlsPem(cert, key, ca, chain[0].not_valid_after_utc if chain else None)


def warn_of_risks(files: TlsFiles, pem: TlsPem) -> None:
    """Logs what works, but should be mended: a key that everybody can read, a certificate that ends soon."""
    if files.key and Path(files.key).stat().st_mode & stat.S_IROTH:
        _LOG.warning("private key is readable by everybody", file=files.key, do=f"chmod 600 {files.key}")
    if pem.expires is not None and pem.expires - datetime.now(UTC) < _SOON:
        _LOG.warning("certificate expires soon", file=files.cert, expires=pem.expires.isoformat())


class TlsSource:
    """The files as they are now, or as they last were good. For any thread."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises SettingsError where the files are not good."""
        self.files = files
        self._lock = threading.Lock()
        self._pem = read_tls(files)
        self._refused = ""

    @property
    def pem(self) -> TlsPem:
        """As of the last look."""
        return self._pem

    def look(self) -> TlsPem:
        """Reads the files. The same object as before where nothing changed, or nothing that is good."""
        with self._lock:
            try:
                found = read_tls(self.files)
            except SettingsError as error:
                self._refuse(str(error))
                return self._pem
            self._refused = ""
            if found != self._pem:
                self._pem = found
                expires = found.expires.isoformat() if found.expires else None
                _LOG.info("certificates taken up", file=self.files.cert or self.files.ca, expires=expires)
            return self._pem

    def _refuse(self, why: str) -> None:
        """Says it once, not with every look."""
        if why != self._refused:
            self._refused = why
            _LOG.error("new certificates refused, the old ones stay", error=why)


def source_of(files: TlsFiles | None) -> TlsSource | None:
    """None where there is no TLS. Raises SettingsError where the files are not good."""
    return TlsSource(files) if files is not None else None


def _certificates(name: str, path: str) -> tuple[list[x509.Certificate], bytes]:
    """Those of a file, at least one, and its bytes; none where there is no file."""
    if not path:
        return [], b""
    data = _read(name, path)
    try:
        return x509.load_pem_x509_certificates(data), data
    except ValueError:
        raise _bad(name, "must hold certificates in PEM", path) from None


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _bad(name, f"must be a file that can be read ({error.strerror})", path) from error


def _check_pair(name: str, files: TlsFiles, cert: x509.Certificate, data: bytes) -> None:
    try:
        fits = _spki(load_pem_private_key(data, None).public_key()) == _spki(cert.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        raise _bad(name, "must hold a private key in PEM, without password", files.key) from None
    if not fits:
        raise _bad(name, f"must hold the key of the certificate in {files.cert}", files.key)


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _expired(cert: x509.Certificate) -> bool:
    return cert.not_valid_after_utc < datetime.now(UTC)


def _check_valid(name: str, path: str, cert: x509.Certificate) -> None:
    begins, ends, now = cert.not_valid_before_utc, cert.not_valid_after_utc, datetime.now(UTC)
    if not begins <= now <= ends:
        valid = f"{begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
        raise _bad(name, f"must hold a certificate that is valid now, this one is from {valid}", path)


def _bad(name: str, rule: str, path: str) -> SettingsError:
    return SettingsError(f"{name} {rule}, got {path!r}")
