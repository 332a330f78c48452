"""What signs tokens: public keys from a file (JWKS or PEM), a shared secret from the settings.

Each key is bound to one algorithm, by its own type: a token's header only chooses among keys. So nobody can
have a public key taken for a shared secret, and what is not in `ALGORITHMS`, such as `none`, has no key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from shared.errors import Unauthenticated

HS256 = "HS256"
ALGORITHMS = (HS256, "RS256", "ES256", "EdDSA")
MIN_SECRET_BYTES = 32  # RFC 7518 §3.2: a key as long as the hash
MAX_KEYS = 100
# Below, forgeable (RFC 7518 §3.3); above, a check takes the event loop longer than 0.2 ms.
_RSA_BITS = range(2048, 4097)
_END_OF_PEM = b"-----END PUBLIC KEY-----"
_PRIVATE = ("d", "p", "q", "k")


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """kid: "" where the file names none. key: as PyJWT takes it."""

    algorithm: str
    kid: str
    key: Any


class VerifyingKeys:
    """The keys of a server."""

    def __init__(self, keys: Iterable[VerifyingKey]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, algorithm: object, kid: object) -> VerifyingKey:
        """The one that a token's header means. Raises Unauthenticated.

        A token without a kid may mean the only key of its algorithm; a kid that no key has means none, but
        where keys have no kids (PEM, a secret).
        """
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        if not fitting:
            known = ", ".join(sorted({key.algorithm for key in self._keys}))
            raise Unauthenticated(f"the token's algorithm must be one that a key is here for: {known}")
        found = [key for key in fitting if kid is None or key.kid in ("", kid)]
        if len(found) != 1:
            raise Unauthenticated("the token's kid must name a key that is known here")
        return found[0]


def secret_key(secret: str) -> VerifyingKey:
    """Raises ValueError where it is too short."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes")
    return VerifyingKey(HS256, "", secret.encode())


def parse_public_keys(content: bytes) -> tuple[VerifyingKey, ...]:
    """A JWK set (RFC 7517), or one or more public keys in PEM. Raises ValueError, which shows no key."""
    keys = _from_pem(content) if content.lstrip().startswith(b"-----BEGIN") else _from_jwks(content)
    if not keys:
        raise ValueError("must hold a public key")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"must hold at most {MAX_KEYS} keys, got {len(keys)}")
    kids = [(key.algorithm, key.kid) for key in keys]
    if len(set(kids)) < len(kids):
        raise ValueError("keys of one algorithm must have kids that differ")
    return keys


def _from_pem(content: bytes) -> tuple[VerifyingKey, ...]:
    blocks = content.split(_END_OF_PEM)
    if blocks[-1].strip():
        raise ValueError("must hold public keys only (BEGIN PUBLIC KEY), got something else")
    return tuple(_pem_key(block + _END_OF_PEM) for block in blocks[:-1])


def _pem_key(block: bytes) -> VerifyingKey:
    try:
        key = load_pem_public_key(block.strip())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must hold public keys in PEM (BEGIN PUBLIC KEY), got one that is broken") from None
    return VerifyingKey(_algorithm(key), "", key)


def _from_jwks(content: bytes) -> tuple[VerifyingKey, ...]:
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('must be a JWK set, {"keys": […]}, or public keys in PEM') from None
    if not isinstance(entries, list):
        raise ValueError("keys must be a list")
    return tuple(_jwk(f"keys[{place}]", entry) for place, entry in enumerate(entries))


def _jwk(field: str, entry: object) -> VerifyingKey:
    if not isinstance(entry, dict):
        raise ValueError(f"{field} must be an object")
    if any(name in entry for name in _PRIVATE):
        raise ValueError(f"{field} must be a public key: private ones and secrets do not belong here")
    if entry.get("use", "sig") != "sig":
        raise ValueError(f"{field}.use must be sig")
    kid = entry.get("kid", "")
    if not isinstance(kid, str):
        raise ValueError(f"{field}.kid must be a text")
    try:
        key = PyJWK(entry).key
    except (PyJWTError, ValueError, TypeError):
        raise ValueError(f"{field} must be a key of {', '.join(ALGORITHMS[1:])}") from None
    algorithm = _algorithm(key)
    if entry.get("alg", algorithm) != algorithm:
        raise ValueError(f"{field}.alg must be {algorithm}, as its key is of that kind")
    return VerifyingKey(algorithm, kid, key)


def _algorithm(key: object) -> str:
    if isinstance(key, RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            rule = f"RSA keys must have {_RSA_BITS.start}..{_RSA_BITS.stop - 1} bits"
            raise ValueError(f"{rule}, got {key.key_size}")
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    raise ValueError("keys must be RSA, ECDSA on P-256 or Ed25519")
