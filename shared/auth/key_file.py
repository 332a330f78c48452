"""The file of static keys. Whoever reads it can use none of them: it holds hashes of secrets.

{"version": 1, "keys": [{
  "id": "3f9ac01d77be",             12 hex digits
  "sha256": "9b74c9…",              of the secret, 64 hex digits
  "scopes": ["recommend"],          of recommend, feedback, catalogue, admin
  "domains": ["shop"],              "*" = all
  "quota": {"rate": 100, "burst": 200},   calls a second; null = the server's default, rate 0 = no limit
  "created": "2026-01-31T12:00:00Z",
  "expires": null,                  a time, or null = never
  "revoked": null,                  a time: refused since
  "note": "the shop's backend"
}]}
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.auth.callers import MAX_DOMAINS, Quota, Scope, credential_domain_rule
from shared.auth.keys import StaticKey
from shared.errors import SettingsError
from shared.limits import text_rule

MAX_KEYS = 10_000
MAX_NOTE_BYTES = 256
MAX_RATE = 1e6


def _domain(value: str) -> str:
    if rule := credential_domain_rule(value):
        raise ValueError(rule)
    return value


def _note(value: str) -> str:
    if rule := text_rule(value, MAX_NOTE_BYTES):
        raise ValueError(rule)
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Quota(_Strict):
    rate: float = Field(ge=0, le=MAX_RATE)
    burst: float = Field(ge=0, le=MAX_RATE)


class _Key(_Strict):
    id: str = Field(pattern="^[0-9a-f]{12}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(min_length=1)
    domains: list[Annotated[str, AfterValidator(_domain)]] = Field(min_length=1, max_length=MAX_DOMAINS)
    quota: _Quota | None = None
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    note: Annotated[str, AfterValidator(_note)] = ""


class _File(_Strict):
    version: Literal[1]
    keys: list[_Key] = Field(max_length=MAX_KEYS)


def parse_keys(content: bytes) -> tuple[StaticKey, ...]:
    """Raises ValueError with each broken field and its rule; values are not shown: they might be secrets."""
    try:
        file = _File.model_validate_json(content)
    except ValidationError as error:
        broken = [
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ValueError("; ".join(broken[:5])) from None
    ids = [key.id for key in file.keys]
    if twice := {i for i in ids if ids.count(i) > 1} if len(set(ids)) < len(ids) else set():
        raise ValueError(f"keys: ids must differ, got {', '.join(sorted(twice))} more than once")
    return tuple(map(_decoded, file.keys))


def encode_keys(keys: Sequence[StaticKey]) -> bytes:
    """As `parse_keys` reads it."""
    return (json.dumps({"version": 1, "keys": [as_dict(key) for key in keys]}, indent=2) + "\n").encode()


def as_dict(key: StaticKey) -> dict[str, Any]:
    """One key as the file holds it."""
    quota = None if key.quota is None else {"rate": key.quota.rate, "burst": key.quota.burst}
    return {
        "id": key.key_id,
        "sha256": key.sha256.hex(),
        "scopes": sorted(key.scopes),
        "domains": sorted(key.domains),
        "quota": quota,
        "created": _moment(key.created),
        "expires": _moment(key.expires),
        "revoked": _moment(key.revoked),
        "note": key.note,
    }


def read_keys(path: Path) -> tuple[StaticKey, ...]:
    """Nothing where there is no file. Raises SettingsError where it cannot be read or is broken."""
    try:
        return parse_keys(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(f"{path} must be a file that can be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} must be a file of keys: {error}") from error


def change_keys(path: Path, change: Callable[[tuple[StaticKey, ...]], Sequence[StaticKey]]) -> None:
    """Reads, changes and writes the file, whole or not at all, one process at a time; its mode is 0600.

    Raises SettingsError as `read_keys`, OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.resolve()  # a link stays a link
    with _alone(target):
        keys = change(read_keys(target))
        if len(keys) > MAX_KEYS:
            raise SettingsError(f"{path} must hold at most {MAX_KEYS} keys, got {len(keys)}")
        _write(target, encode_keys(keys))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _decoded(key: _Key) -> StaticKey:
    return StaticKey(
        key_id=key.id,
        sha256=bytes.fromhex(key.sha256),
        scopes=frozenset(key.scopes),
        domains=frozenset(key.domains),
        created=key.created,
        quota=None if key.quota is None else Quota(key.quota.rate, key.quota.burst),
        expires=key.expires,
        revoked=key.revoked,
        note=key.note,
    )


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")
