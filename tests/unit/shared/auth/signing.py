"""Tokens and keys for tests: good ones, and ones wrong in every way we know."""

from __future__ import annotations

import base64
import hmac
import json
import time
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE, ISSUER = "warmstart", "https://issuer.test"
SECRET = "a shared secret of the tests, long enough"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> bytes:
    """The public part."""
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(algorithm: Any, key: Any, kid: str, **more: Any) -> dict[str, Any]:
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def jwks(**more: Any) -> bytes:
    """Public keys with the ids rsa, ec and ed."""
    keys = [
        jwk(RSAAlgorithm, RSA_KEY, "rsa", **more),
        jwk(ECAlgorithm, EC_KEY, "ec", **more),
        jwk(OKPAlgorithm, ED_KEY, "ed", **more),
    ]
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Of a good token of the domain shop; None leaves a claim out."""
    now = int(time.time())
    good = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "the shop", "scope": "recommend feedback",
        "domains": ["shop"], "iat": now, "exp": now + 600,
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(
    key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "rsa", headers: Any = None, **changes: Any
) -> str:
    """A token; `changes` of its claims."""
    named = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers={**named, **(headers or {})})


def unsigned(algorithm: str = "none", **changes: Any) -> str:
    """As `none` means it: a header, claims and no signature."""
    return f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{_part(claims(**changes))}."


def confused(public: bytes, **changes: Any) -> str:
    """Signed by HMAC with the bytes of a public key, which everybody has."""
    signing_input = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa'})}.{_part(claims(**changes))}"
    mac = hmac.new(public, signing_input.encode(), sha256).digest()
    return f"{signing_input}.{_base64(mac)}"


def tampered(token: str, **changes: Any) -> str:
    """Other claims under the same signature."""
    header, _, signature = token.split(".")
    return f"{header}.{_part(claims(**changes))}.{signature}"


def _part(value: Any) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
