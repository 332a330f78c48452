"""Aliases on versions: `<root>/<domain>/champion.json`, replaced atomically, with history for rollback."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.artifacts.manifest import version_rule
from shared.artifacts.reading import read_small
from shared.errors import ArtifactError

CHAMPION = "champion"
CHALLENGER = "challenger"
ALIASES = (CHAMPION, CHALLENGER)
_MAX_HISTORY = 50
_MAX_BYTES = 64 << 10  # the longest history of the longest names takes 7 kB
_HOW_TO_MEND = "promote a version, and it is written anew"


@dataclass(frozen=True, slots=True)
class Alias:
    """The version an alias points to, and those it pointed to before, oldest first."""

    version: str
    history: tuple[str, ...] = ()

    def moved_to(self, version: str) -> Alias:
        """Points to `version`; the present one joins the history. The same version changes nothing."""
        if version == self.version:
            return self
        return Alias(version, (*self.history, self.version)[-_MAX_HISTORY:])


def alias_file(domain_dir: Path, name: str) -> Path:
    if name not in ALIASES:
        raise ArtifactError(f"alias must be one of {', '.join(ALIASES)}, got {name!r}")
    return domain_dir / f"{name}.json"


def read_alias(domain_dir: Path, name: str) -> Alias | None:
    """None where the alias was never set. Raises ArtifactError where its file is damaged."""
    file = alias_file(domain_dir, name)
    try:
        raw = read_small(file, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{file}: must be readable: {error.strerror}") from error
    try:
        data = json.loads(raw)
        alias = Alias(data["version"], tuple(data["history"]))
        broken = next((v for v in (alias.version, *alias.history) if version_rule(v)), None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{file}: must hold version and history, got {raw[:80]!r}; {_HOW_TO_MEND}"
        ) from error
    if broken is not None:
        raise ArtifactError(f"{file}: version {version_rule(broken)}, got {broken!r}; {_HOW_TO_MEND}")
    return alias


def write_alias(domain_dir: Path, name: str, alias: Alias) -> None:
    """Replaces the alias in one step: a reader sees the old one or the new one, whole."""
    file = alias_file(domain_dir, name)
    # Not named like a version or an alias, so that nobody takes it for one.
    fresh = domain_dir / f".{name}-{secrets.token_hex(4)}"
    try:
        write_durably(fresh, json.dumps(asdict(alias)).encode() + b"\n")
        fresh.replace(file)
        sync_directory(domain_dir)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def locked(domain_dir: Path) -> Iterator[None]:
    """One writer of aliases at a time, over processes too."""
    with (domain_dir / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_durably(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Makes renames inside it durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
