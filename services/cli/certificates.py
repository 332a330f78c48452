"""A private authority and a certificate for each service, as files: for one machine, and for trying TLS.

DIR/ca.pem, ca-key.pem          the authority
DIR/<service>.pem, -key.pem     a service's, for its name, localhost and this machine's loopback addresses
DIR/operator.pem, -key.pem      the command line's
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.cli.directories import make_ignored
from services.cli.failures import CommandError
from shared.settings import TlsFiles

OPERATOR = "operator"
# Whose calls each service takes: who calls whom (docs/architecture.md), and operators. () = all signed.
CALLERS: dict[str, tuple[str, ...]] = {
    "gateway": (),
    "features": ("gateway", "adaptation", "scoring", "training", OPERATOR),
    "adaptation": ("gateway",),
    "scoring": ("gateway",),
    "training": (OPERATOR,),
}
_LOCAL = ("localhost", "127.0.0.1", "::1")
_CA, _CA_DAYS = "ca", 3650
# RFC 1123, and the wildcard of RFC 6125.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
# Clocks of machines differ.
_EARLIER = timedelta(hours=1)


def files_of(directory: Path, name: str) -> TlsFiles:
    """The files of a service, or of the operator."""
    cert, key, ca = (str(directory / file) for file in (f"{name}.pem", f"{name}-key.pem", f"{_CA}.pem"))
    return TlsFiles(cert, key, ca, (f"{name}'s certificate", f"{name}'s key", "the authority"))


def write_certificates(directory: Path, *, days: int, hosts: Sequence[str] = ()) -> list[str]:
    """Makes or renews the certificates of all services and the operator; returns their names.

    The authority is made once and stays. hosts: names and addresses besides those of this machine and those
    that the certificates have already: a renewal must not shut callers out.
    Raises CommandError where there is half an authority, or one that is damaged.
    """
    if directory.exists() and not directory.is_dir():
        raise CommandError(f"the certificates' place must be a directory, got the file {str(directory)!r}")
    for host in hosts:
        if not _is_address(host) and not _HOST_NAME.fullmatch(host):
            raise CommandError(f"--host must be a host name or an IP address, got {host!r}")
    made = not directory.exists()
    try:
        make_ignored(directory, "warmstart certificates")
        return _write_all(directory, days, hosts)
    except OSError as error:
        if made:
            shutil.rmtree(directory, ignore_errors=True)
        raise OSError(error.errno, error.strerror, error.filename or str(directory)) from error


def _write_all(directory: Path, days: int, hosts: Sequence[str]) -> list[str]:
    authority = _authority(directory)
    names = [*CALLERS, OPERATOR]
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        called = dict.fromkeys([name, *_LOCAL, *_names_in(directory / f"{name}.pem"), *hosts])
        cert = authority.sign(name, key.public_key(), days, list(called))
        # The key first: half a pair is taken up by nobody.
        _write(directory / f"{name}-key.pem", _pem(key), 0o600)
        _write(directory / f"{name}.pem", cert.public_bytes(Encoding.PEM), 0o644)
    return names


def _names_in(cert_file: Path) -> list[str]:
    """Names and addresses of a certificate; none where there is none yet."""
    if not cert_file.exists():
        return []
    try:
        cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CommandError(
            f"{cert_file} must be a certificate that this command made ({error}): remove it to make it anew"
        ) from error
    return [str(name.value) for name in names]


@dataclass(frozen=True, slots=True)
class _Authority:
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def sign(
        self, name: str, key: ec.EllipticCurvePublicKey, days: int, names: Sequence[str]
    ) -> x509.Certificate:
        """For a server and a client at once: services are both."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return (
            _builder(name, key, self.cert.subject, min(_in_days(days), self.cert.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )


def _authority(directory: Path) -> _Authority:
    cert_file, key_file = directory / f"{_CA}.pem", directory / f"{_CA}-key.pem"
    if cert_file.exists() != key_file.exists():
        there, missing = (cert_file, key_file) if cert_file.exists() else (key_file, cert_file)
        raise CommandError(f"{there} is there without {missing.name}: put it back, or take another directory")
    if cert_file.exists():
        try:
            key = load_pem_private_key(key_file.read_bytes(), None)
            cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        except ValueError as error:
            raise CommandError(f"{cert_file} and {key_file.name} must be an authority's: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
            raise CommandError(f"{cert_file} and {key_file.name} must be an authority that this command made")
        return _Authority(cert, key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("Warmstart private authority")
    cert = (
        _builder("Warmstart private authority", key.public_key(), subject, _in_days(_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem(key), 0o600)
    try:
        _write(cert_file, cert.public_bytes(Encoding.PEM), 0o644)
    except OSError:
        key_file.unlink()  # half an authority would be in the way of the next attempt
        raise
    return _Authority(cert, key)


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _EARLIER)
        .not_valid_after(until)
    )


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _in_days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, mode: int) -> None:
    """Written beside and renamed; never readable by others in between. OSErrors name the file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
