"""What a domain's keys look like, as a version that old and new servers agree on."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b

from services.features.store.connection import Store
from services.features.store.keys import schema_key
from services.features.store.scripts import script
from shared.errors import SettingsError

VERSION = 1
# The oldest version of servers that can work on keys of VERSION: they run side by side in a rollout.
OLDEST = 1
_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Schema:
    """What was fixed when the domain was first opened.

    epoch: names this incarnation of the domain's keys; cursors of another one mean nothing.
    """

    domain: str
    num_shards: int
    epoch: str
    _secret: bytes

    def keyed_hash(self, user_id: str) -> bytes:
        """What remains of an erased person: BLAKE2b under the secret, 16 bytes."""
        return blake2b(user_id.encode(), digest_size=_HASH_BYTES, key=self._secret).digest()


async def open_domain(store: Store, domain: str, *, num_shards: int, secret: str) -> Schema:
    """Reads or writes the domain's schema.

    secret: keys the hashes of erased people; "" = a random one that is kept in the store.
    Raises SettingsError where the store holds something that these settings cannot work on.
    """
    kept = _fingerprint(secret) if secret else f"key:{secrets.token_hex(32)}"
    reply = await store.script(
        script("open"), [schema_key(domain)], [VERSION, OLDEST, num_shards, secrets.token_hex(4), kept]
    )
    version, oldest, shards, epoch, held = (field.decode() for field in reply)
    if int(oldest) > VERSION:
        raise SettingsError(
            f"store schema of domain {domain!r} must be at most {VERSION} (or usable by it), got version "
            f"{version}, usable from {oldest} on: start a newer server"
        )
    if int(shards) != num_shards:
        raise SettingsError(
            f"shards of domain {domain!r} were fixed at {shards} when it was first opened, got {num_shards}"
        )
    return Schema(domain, num_shards, epoch, _secret_of(domain, secret, kept, held))


def _fingerprint(secret: str) -> str:
    return "check:" + blake2b(b"warmstart deletion secret", digest_size=8, key=_key(secret)).hexdigest()


def _key(secret: str) -> bytes:
    return blake2b(secret.encode(), digest_size=32).digest()


def _secret_of(domain: str, secret: str, kept: str, held: str) -> bytes:
    kind, _, value = held.partition(":")
    if kind == "key":
        if secret:
            raise SettingsError(
                f"deletion_secret of domain {domain!r} must be empty: the domain was opened without one and "
                "its erased people are known under the store's own"
            )
        return bytes.fromhex(value)
    if held != kept:
        raise SettingsError(
            f"deletion_secret of domain {domain!r} must be the one it was first opened with, got "
            f"{'another' if secret else 'none'}: erased people would no longer be recognised"
        )
    return _key(secret)
