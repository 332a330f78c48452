"""Signed tokens: what is good, and everything that is not."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from shared.auth.callers import Scope
from shared.auth.jwt_keys import VerifyingKeys, parse_public_keys, secret_key
from shared.auth.tokens import MAX_TOKEN_BYTES, TokenRules, Tokens
from shared.errors import CredentialExpired, Unauthenticated
from tests.unit.shared.auth.signing import (
    AUDIENCE,
    EC_KEY,
    ED_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    confused,
    jwk,
    jwks,
    pem,
    signed,
    tampered,
    unsigned,
)


def tokens(keys: bytes = b"", secret: str = SECRET, issuer: str = ISSUER, **more: Any) -> Tokens:
    known = [*parse_public_keys(keys or jwks()), *([secret_key(secret)] if secret else [])]
    return Tokens(VerifyingKeys(known), TokenRules(AUDIENCE, issuer), **more)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (SECRET, "HS256", None),
        (SECRET, "HS256", "whatever its issuer calls it"),
        (RSA_KEY, "RS256", "rsa"),
        (RSA_KEY, "RS256", None),
        (EC_KEY, "ES256", "ec"),
        (ED_KEY, "EdDSA", "ed"),
    ],
)
def test_a_token_of_each_algorithm_names_its_caller(key: Any, algorithm: str, kid: str | None) -> None:
    caller = tokens().caller(signed(key, algorithm, kid))
    assert (caller.name, caller.label) == ("jwt:the shop", "jwt")
    assert caller.scopes == {Scope.RECOMMEND, Scope.FEEDBACK}
    assert caller.domains == {"shop"}
    assert caller.quota is None


def test_public_keys_may_come_in_pem_without_ids() -> None:
    known = tokens(pem(RSA_KEY) + pem(EC_KEY), secret="")
    assert known.caller(signed(RSA_KEY, "RS256", "any id")).domains == {"shop"}
    assert known.caller(signed(EC_KEY, "ES256", None)).domains == {"shop"}


def test_scopes_of_other_services_are_passed_over() -> None:
    assert tokens().caller(signed(scope="openid admin profile")).scopes == {Scope.ADMIN}
    assert tokens().caller(signed(scope="")).scopes == set()


def test_an_audience_may_be_one_of_several() -> None:
    assert tokens().caller(signed(aud=["other", AUDIENCE])).domains == {"shop"}


def test_any_issuer_is_good_where_none_is_asked_for() -> None:
    assert tokens(issuer="").caller(signed(iss=None)).domains == {"shop"}


def later() -> int:
    return int(time.time()) + 3600


# Made when asked for: one signed as the file is read may have expired by the time its test runs.
BAD: dict[str, tuple[Callable[[], str], str]] = {
    "none": (lambda: unsigned(), "algorithm must be one that a key is here for: ES256, EdDSA, HS256, RS256"),
    "None": (lambda: unsigned("None"), "algorithm must be one"),
    "an algorithm of no key": (lambda: signed(algorithm="RS512"), "algorithm must be one"),
    "HS256 with a public key": (lambda: confused(pem(RSA_KEY)), "be signed by a key"),
    "HS256 with a JWK set": (lambda: confused(jwks()), "be signed by a key"),
    "another key": (lambda: signed(OTHER_RSA_KEY), "be signed by a key"),
    "another kind of key": (lambda: signed(EC_KEY, "ES256", "rsa"), "kid must name a key"),
    "an unknown kid": (lambda: signed(kid="nobody's"), "kid must name a key"),
    "a kid that is no text": (
        lambda: signed(kid=None, headers={}).replace("eyJ", "e30", 1),
        "well-formed JWT",
    ),
    "other claims": (lambda: tampered(signed(), scope="admin"), "be signed by a key"),
    "no signature": (lambda: signed().rpartition(".")[0] + ".", "be signed by a key"),
    "a critical header": (lambda: signed(headers={"crit": ["exp"], "exp": 1}), "well-formed JWT"),
    "another audience": (lambda: signed(aud="elsewhere"), "audience"),
    "an audience that is a number": (lambda: signed(aud=[7]), "audience"),
    "another issuer": (lambda: signed(iss="https://elsewhere.test"), "issuer"),
    "not valid yet": (lambda: signed(nbf=later()), "be valid already"),
    "issued in the future": (lambda: signed(iat=later()), "be valid already"),
    "no exp": (lambda: signed(exp=None), "claim exp"),
    "no aud": (lambda: signed(aud=None), "claim aud"),
    "no sub": (lambda: signed(sub=None), "claim sub"),
    "no scope": (lambda: signed(scope=None), "claim scope"),
    "no domains": (lambda: signed(domains=None), "claim domains"),
    "no iss": (lambda: signed(iss=None), "claim iss"),
    "an exp that is no number": (lambda: signed(exp="soon"), "well-formed JWT"),
    "a scope that is a list": (lambda: signed(scope=["admin"]), "scope must be a text"),
    "domains that are a text": (lambda: signed(domains="shop"), "domains must be a list"),
    "no domain": (lambda: signed(domains=[]), "domains must be a list"),
    "a domain that is a path": (lambda: signed(domains=["../etc"]), "domains must be a list"),
    "a domain that is a number": (lambda: signed(domains=[1]), "domains must be a list"),
    "a sub of control characters": (lambda: signed(sub="a\nb"), "sub must be a text"),
    "far too long": (lambda: signed(more="x" * MAX_TOKEN_BYTES), "at most 4096 bytes"),
    "nothing": (lambda: "", "well-formed JWT"),
    "not a token": (lambda: "abc.def.ghi", "well-formed JWT"),
    "no segments": (lambda: "x" * 100, "well-formed JWT"),
    "not ASCII": (lambda: "é.ü.ß", "well-formed JWT"),
    "half a character": (lambda: "\ud800.a.b", "well-formed JWT"),
    "a header that goes deep": (
        lambda: base64.urlsafe_b64encode(b"[" * 2000).decode().rstrip("=") + ".e30.AAAA",
        "well-formed JWT",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused_and_not_shown(kind: str) -> None:
    make, rule = BAD[kind]
    token = make()
    with pytest.raises(Unauthenticated) as refused:
        tokens().caller(token)
    assert rule in str(refused.value)
    parts = [part for part in token.split(".") if len(part) > 8]
    assert [part for part in parts if part in str(refused.value)] == []


def test_an_expired_token_is_told_apart_and_a_few_seconds_are_forgiven() -> None:
    with pytest.raises(CredentialExpired):
        tokens().caller(signed(exp=int(time.time()) - 60))
    assert tokens().caller(signed(exp=int(time.time()) - 1)).domains == {"shop"}
    assert tokens().caller(signed(nbf=int(time.time()) + 3)).domains == {"shop"}


def test_a_token_is_verified_once_until_it_expires() -> None:
    now = [float(int(time.time()))]
    known = tokens(clock=lambda: now[0])
    token = signed(exp=int(now[0]) + 30)
    first = known.caller(token)
    assert known.caller(token) is first
    now[0] += 29.0
    assert known.caller(token) is first
    now[0] += 1.0  # its time is up for what is remembered; verified anew, it is good by the real clock
    assert known.caller(token) is not first
    assert len(known) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.auth.tokens.MAX_REMEMBERED", 3)
    known = tokens()
    for n in range(5):
        known.caller(signed(SECRET, "HS256", None, sub=f"caller {n}"))
    assert len(known) == 3


def test_a_token_far_in_the_future_is_remembered_for_an_hour() -> None:
    now = [time.time()]
    known = tokens(clock=lambda: now[0])
    first = known.caller(signed(exp=10**30))
    assert first.domains == {"shop"}


def jwk_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
P384 = ec.generate_private_key(ec.SECP384R1())
RSA_JWK = jwk(RSAAlgorithm, RSA_KEY, "rsa")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must be a JWK set"),
        (b"[]", "must be a JWK set"),
        (b'{"keys": 1}', "keys must be a list"),
        (b'{"keys": []}', "must hold a public key"),
        (b"[" * 100_000, "must be a JWK set"),
        (jwk_set(RSA_JWK | {"d": "AQAB"}), "must be a public key"),
        (jwk_set({"kty": "oct", "k": "c2VjcmV0"}), "must be a public key"),
        (jwk_set(RSA_JWK | {"alg": "HS256"}), "keys[0] must be a key of RS256"),
        (jwk_set(RSA_JWK | {"alg": "RS512"}), "keys[0].alg must be RS256"),
        (jwk_set(RSA_JWK | {"use": "enc"}), "keys[0].use must be sig"),
        (jwk_set(RSA_JWK | {"kid": 7}), "keys[0].kid must be a text"),
        (jwk_set(RSA_JWK, RSA_JWK), "kids that differ"),
        (jwk_set({"kty": "new"}), "must be a key of RS256, ES256, EdDSA"),
        (jwk_set(jwk(ECAlgorithm, P384, "p")), "RSA, ECDSA on P-256 or Ed25519"),
        (jwk_set(jwk(RSAAlgorithm, SMALL, "s")), "2048..4096 bits, got 1024"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "got one that is broken"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "public keys only"),
        (pem(RSA_KEY) + pem(OTHER_RSA_KEY), "kids that differ"),
    ],
)
def test_a_broken_file_of_public_keys_is_refused(content: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(rule)):
        parse_public_keys(content)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        secret_key("x" * 31)
