"""What a domain's keys look like, as a version that old and new servers agree on.

The store notes two numbers: the version of its keys, and the oldest server version that can work on them.
A newer server that starts raises both; they never fall. So in a rollout

- a change that older servers can live with (a new key, a new field that they pass over) raises `version`
  alone: both work side by side, and the older one may come back;
- a change that they cannot live with takes two releases. The first one reads both forms and still writes the
  old one; once no server before it is left, the second one writes the new form and raises `oldest` to the
  first one's version. Servers before that are refused from then on, at their start, with the version they
  need; a rollback leads as far as the first of the two.
- a release that no longer reads an old form says so by `reads`, and refuses a store that older servers have
  written last: it was to be brought forward by the release between.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b

from services.features.store.connection import Command, Store
from services.features.store.keys import schema_key
from services.features.store.scripts import script
from shared.errors import SettingsError
from shared.telemetry.logs import logger

_HASH_BYTES = 16
_LOG = logger("schema")


@dataclass(frozen=True, slots=True)
class Release:
    """version: of the keys that a server writes; oldest: of servers that can work on them; reads: the oldest
    version of keys that it can work on itself."""

    version: int
    oldest: int
    reads: int


# 2: marks of merged people (`mf`, `md`, `merges`), which older servers do not take along when they erase
# somebody, and notes of merges (`m:`, `i:`) and of relations (`l:`), which they pass over.
THIS = Release(version=2, oldest=1, reads=1)


@dataclass(frozen=True, slots=True)
class Schema:
    """What was fixed when the domain was first opened.

    epoch: names this incarnation of the domain's keys; cursors of another one mean nothing; began_ms: since
    when it knows who was erased, since the Unix epoch, by the store's clock.
    """

    domain: str
    num_shards: int
    epoch: str
    began_ms: int
    _secret: bytes
    _kept: str

    def keyed_hash(self, user_id: str) -> bytes:
        """What remains of an erased person: BLAKE2b under the secret, 16 bytes."""
        return blake2b(user_id.encode(), digest_size=_HASH_BYTES, key=self._secret).digest()

    @property
    def secret_check(self) -> str:
        """Tells two secrets apart and says nothing about them."""
        return blake2b(b"warmstart deletion secret", digest_size=8, key=self._secret).hexdigest()

    async def write_again(self, store: Store, release: Release = THIS) -> None:
        """Into a store that has lost it, with all else: servers that start later must know erased people
        under the same secret. With an epoch of its own, as cursors of before mean nothing any more, and a
        beginning of its own: its list of erased people says nothing of who was erased before."""
        kept: Command = [release.version, release.oldest, self.num_shards, new_epoch(), self._kept]
        await store.script(script("open"), [schema_key(self.domain)], kept)
        _LOG.error("schema_written_again", domain=self.domain)


async def open_domain(
    store: Store, domain: str, *, num_shards: int, secret: str, release: Release = THIS
) -> Schema:
    """Reads or writes the domain's schema.

    secret: keys the hashes of erased people; "" = a random one that is kept in the store.
    Raises SettingsError where the store holds something that these settings cannot work on.
    """
    kept = _fingerprint(secret) if secret else f"key:{secrets.token_hex(32)}"
    reply = await store.script(
        script("open"),
        [schema_key(domain)],
        [release.version, release.oldest, num_shards, new_epoch(), kept],
    )
    version, oldest, shards, epoch, held, began_ms = (field.decode() for field in reply)
    if int(oldest) > release.version:
        raise SettingsError(
            f"store schema of domain {domain!r} must be at most {release.version} (or usable by it), got "
            f"version {version}, usable from {oldest} on: start a newer server"
        )
    if int(version) < release.reads:
        raise SettingsError(
            f"store schema of domain {domain!r} must be at least {release.reads}, got version {version}: "
            "start the release before this one first, which brings it forward"
        )
    if int(shards) != num_shards:
        raise SettingsError(
            f"shards of domain {domain!r} were fixed at {shards} when it was first opened, got {num_shards}"
        )
    schema = Schema(domain, num_shards, epoch, int(began_ms), _secret_of(domain, secret, kept, held), held)
    if await store.script(script("upgrade"), [schema_key(domain)], [release.version, release.oldest]):
        _LOG.info("schema_raised", domain=domain, before=int(version), version=release.version)
    return schema


def new_epoch() -> str:
    """Of one incarnation of a domain's keys."""
    return secrets.token_hex(4)


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
