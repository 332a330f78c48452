"""Static keys: `wsk_<id>_<secret>`, of which a server keeps the id and a hash of the secret.

The secret has 256 random bits, so SHA-256 is enough at rest: NIST SP 800-63B §5.1.2.2 asks for a slow, salted
hash only below 112 bits, and OWASP's Password Storage Cheat Sheet is about secrets that people choose.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256

from shared.auth.callers import Caller, Quota, Scope
from shared.errors import CredentialExpired, Unauthenticated

PREFIX = "wsk_"
_ID_BYTES = 6
_SECRET_BYTES = 32
# What an unknown key is compared with, so that it takes as long as a known one.
_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticKey:
    """One key at rest. sha256: of the secret. quota: None = the server's default. expires, revoked: None =
    never, or not yet."""

    key_id: str
    sha256: bytes
    scopes: frozenset[Scope]
    domains: frozenset[str]
    created: datetime
    quota: Quota | None = None
    expires: datetime | None = None
    revoked: datetime | None = None
    note: str = ""

    @property
    def caller(self) -> Caller:
        return Caller(f"key:{self.key_id}", self.key_id, self.scopes, self.domains, self.quota)

    def state(self, now: datetime) -> str:
        """good, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "good"


def new_key(
    *,
    scopes: Iterable[Scope],
    domains: Iterable[str],
    created: datetime,
    expires: datetime | None = None,
    quota: Quota | None = None,
    note: str = "",
) -> tuple[StaticKey, str]:
    """A key as it is kept, and the key itself, which nothing can bring back."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    kept = StaticKey(
        key_id=key_id,
        sha256=_hash(secret),
        scopes=frozenset(scopes),
        domains=frozenset(domains),
        created=created,
        expires=expires,
        quota=quota,
        note=note,
    )
    return kept, f"{PREFIX}{key_id}_{secret}"


def revoked(key: StaticKey, at: datetime) -> StaticKey:
    """A key that was revoked before stays as it is."""
    return key if key.revoked is not None else replace(key, revoked=at)


class KeyRing:
    """The keys of a server, ready to be looked up. clock: seconds since the Unix epoch."""

    def __init__(self, keys: Iterable[StaticKey], clock: Callable[[], float] = time.time) -> None:
        self._keys = {key.key_id: (key, key.caller) for key in keys}
        self._clock = clock

    def __len__(self) -> int:
        return len(self._keys)

    def caller(self, credential: str) -> Caller:
        """Raises Unauthenticated, the same for an unknown id as for a wrong secret; CredentialExpired."""
        key_id, _, secret = credential.removeprefix(PREFIX).partition("_")
        found = self._keys.get(key_id)
        kept = found[0].sha256 if found is not None else _NOTHING
        same = hmac.compare_digest(_hash(secret), kept)
        if found is None or not same or found[0].revoked is not None:
            raise Unauthenticated("the credential must be a key that is known here, and is not revoked")
        key, caller = found
        if key.expires is not None and self._clock() >= key.expires.timestamp():
            raise CredentialExpired(
                f"the credential must be a key that has not expired: {_said(key.expires)}"
            )
        return caller


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _said(moment: datetime) -> str:
    return f"it did on {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
