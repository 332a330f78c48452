"""Who published a version: `manifest.sig`, an Ed25519 signature (RFC 8032) over the bytes of `manifest.json`.

The manifest names domain, version and the checksum of every file, so a signature holds for all of it, under
no other name. Checksums alone are against accidents: whoever can write a registry can write them anew, and a
SavedModel is a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from shared.artifacts.reading import read_small
from shared.errors import ArtifactError, SettingsError

SIGNATURE_FILE = "manifest.sig"
_MAX_BYTES = 1 << 10  # a signature is 129
_END = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs what is published."""

    key: Ed25519PrivateKey

    @classmethod
    def of_file(cls, setting: str, path: str) -> Signer | None:
        """None where there is no file. Raises SettingsError as `read` does."""
        return cls.read(setting, path) if path else None

    @classmethod
    def read(cls, setting: str, path: str) -> Signer:
        """Raises SettingsError with the setting's name, rule and file."""
        try:
            key = load_pem_private_key(_read(setting, path), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingsError(
                f"{setting} must hold an Ed25519 private key in PEM, without password, got {path!r}"
            )
        return cls(key)

    def sign(self, manifest: bytes) -> bytes:
        """What `manifest.sig` holds, in hex."""
        return self.key.sign(manifest).hex().encode() + b"\n"


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Whose versions are taken."""

    keys: Sequence[Ed25519PublicKey]

    @classmethod
    def of_file(cls, setting: str, path: str) -> TrustedKeys | None:
        """None where there is no file: every version is taken. One key, or several while they change.

        Raises SettingsError with the setting's name, rule and file.
        """
        if not path:
            return None
        blocks = [block + _END for block in _read(setting, path).split(_END)[:-1]]
        try:
            keys = [load_pem_public_key(block.strip()) for block in blocks]
        except (ValueError, UnsupportedAlgorithm):
            keys = []
        known = [key for key in keys if isinstance(key, Ed25519PublicKey)]
        if not known or len(known) < len(keys):
            raise SettingsError(f"{setting} must hold Ed25519 public keys in PEM, got {path!r}")
        return cls(known)

    def check(self, directory: Path, manifest: bytes) -> None:
        """Raises ArtifactError where no key of ours signed these bytes."""
        file = directory / SIGNATURE_FILE
        try:
            signature = bytes.fromhex(read_small(file, _MAX_BYTES).decode("ascii").strip())
        except FileNotFoundError:
            raise ArtifactError(
                f"{file}: must be there, as only signed versions are taken; got no such file"
            ) from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{file}: must be a signature in hex: {error}") from error
        if not any(_holds(key, signature, manifest) for key in self.keys):
            raise ArtifactError(f"{file}: must be a trusted key's signature of the manifest, got another")


def _holds(key: Ed25519PublicKey, signature: bytes, manifest: bytes) -> bool:
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        return False
    return True


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{setting} must be a file that can be read ({error.strerror}), got {path!r}"
        ) from error
