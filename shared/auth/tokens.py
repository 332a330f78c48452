"""Signed tokens (JWT, RFC 7519; claims as in RFC 9068): verified by PyJWT, then remembered until they expire.

A check takes 0.06 ms (HS256) to 0.2 ms (Ed25519; RSA of 4,096 bits 0.18 ms) on one core: hardly more than to
hand it to a thread and back, so it stays on the event loop. A token that was seen before costs microseconds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuedAtError,
    InvalidIssuerError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from shared.auth.callers import MAX_DOMAINS, Caller, Scope, credential_domain_rule
from shared.auth.jwt_keys import VerifyingKeys
from shared.errors import CredentialExpired, Unauthenticated
from shared.limits import id_rule

MAX_TOKEN_BYTES = 4096
LEEWAY_S = 5.0
MAX_REMEMBERED = 10_000
_LONGEST_S = 3600.0
LABEL = "jwt"
_REQUIRED = ("exp", "aud", "sub", "scope", "domains")
_SCOPES = {scope.value: scope for scope in Scope}
# Most particular first. Texts say the rule and show nothing of the token.
_RULES: tuple[tuple[type[PyJWTError], str], ...] = (
    (InvalidSignatureError, "be signed by a key that is known here"),
    (InvalidAudienceError, "be meant for this audience (aud)"),
    (InvalidIssuerError, "come from the issuer that is trusted here (iss)"),
    (ImmatureSignatureError, "be valid already (nbf, iat)"),
    (InvalidIssuedAtError, "say when it was issued as a number (iat)"),
)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """audience: of which a token's `aud` must name one. issuer: "" = any."""

    audience: str
    issuer: str = ""

    @property
    def required(self) -> list[str]:
        return [*_REQUIRED, *(["iss"] if self.issuer else [])]


class Tokens:
    """The tokens of a server. clock: seconds since the Unix epoch; only what is remembered goes by it."""

    def __init__(
        self, keys: VerifyingKeys, rules: TokenRules, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys, self._rules, self._clock = keys, rules, clock
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def __len__(self) -> int:
        """Tokens remembered."""
        return len(self._remembered)

    def caller(self, credential: str) -> Caller:
        """Raises Unauthenticated, CredentialExpired."""
        if len(credential) > MAX_TOKEN_BYTES:
            rule = f"the token must be at most {MAX_TOKEN_BYTES} bytes, got {len(credential)}"
            raise Unauthenticated(rule)
        digest = sha256(credential.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None and self._clock() < known[1]:
            return known[0]
        claims = self._verified(credential)
        caller = _caller(claims)
        self._remembered[digest] = caller, min(int(claims["exp"]), self._clock() + _LONGEST_S)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    def _verified(self, credential: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(credential)
            key = self._keys.of(header.get("alg"), header.get("kid"))
            return jwt.decode(
                credential,
                key.key,
                algorithms=[key.algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer or None,
                leeway=LEEWAY_S,
                options={"require": self._rules.required},
            )
        except ExpiredSignatureError:
            raise CredentialExpired("the token must not have expired (exp)") from None
        except MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token must have the claim {error.claim}") from None
        except PyJWTError as error:
            rule = next((text for cls, text in _RULES if isinstance(error, cls)), "be a well-formed JWT")
            raise Unauthenticated(f"the token must {rule}") from None
        except (
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
        ):  # of JSON that is none, or far too deep
            raise Unauthenticated("the token must be a well-formed JWT") from None


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Scopes that are not ours are passed over: issuers put their own beside them."""
    subject, scope, domains = claims["sub"], claims["scope"], claims["domains"]
    if not isinstance(subject, str) or id_rule(subject):
        raise Unauthenticated("the token's sub must be a text of 1..256 bytes")
    if not isinstance(scope, str):
        raise Unauthenticated("the token's scope must be a text, its scopes separated by spaces")
    if not _are_domains(domains):
        raise Unauthenticated(f"the token's domains must be a list of 1..{MAX_DOMAINS} domains")
    scopes = frozenset(_SCOPES[name] for name in scope.split(" ") if name in _SCOPES)
    return Caller(f"{LABEL}:{subject}", LABEL, scopes, frozenset(domains))


def _are_domains(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_DOMAINS
        and all(isinstance(domain, str) and not credential_domain_rule(domain) for domain in value)
    )
