"""The registry of published models, on a directory that all servers see."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog

from shared.artifacts import aliases
from shared.artifacts.aliases import CHAMPION, Alias
from shared.artifacts.artifact import Artifact, files_of, open_artifact, sha256_of
from shared.artifacts.manifest import MANIFEST_FILE, Manifest, ManifestDraft, version_rule
from shared.artifacts.signature import SIGNATURE_FILE, Signer, TrustedKeys
from shared.domain import ModelRef
from shared.errors import ArtifactError, NotFound
from shared.limits import domain_rule

_log = structlog.get_logger(__name__)
_TEMP, _TRASH = ".publishing-", ".removing-"
_NAME_FORMAT = "%Y%m%dT%H%M%S.%f"  # cut to milliseconds
_STALE_TEMP_S = 24 * 3600.0  # a publisher that takes longer than this has died


def _system_ms() -> int:
    return time.time_ns() // 1_000_000


class Registry:
    """Published versions and aliases under `root`; creates what is missing when it first writes.

    root: a directory, as a path or a `file://` URL. An object store is reached by mounting it: the
    rename that makes a publication atomic needs a real file system. signer: signs what is published; trusted:
    who must have signed what is opened, None = nobody.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        signer: Signer | None = None,
        trusted: TrustedKeys | None = None,
        clock_ms: Callable[[], int] = _system_ms,
    ) -> None:
        self.root = _local_directory(root)
        self._signer = signer
        self._trusted = trusted
        self._clock_ms = clock_ms

    def domains(self) -> list[str]:
        """Domains that have a directory, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(d.name for d in self.root.iterdir() if d.is_dir() and not domain_rule(d.name))

    def versions(self, domain: str) -> list[str]:
        """Published versions, oldest first. Half-written and half-removed ones are not among them."""
        directory = self._domain_dir(domain)
        if not directory.is_dir():
            return []
        return sorted(
            d.name for d in directory.iterdir() if not version_rule(d.name) and (d / MANIFEST_FILE).is_file()
        )

    def aliases(self, domain: str) -> dict[str, str]:
        """Alias → version, of the aliases that are set."""
        directory = self._domain_dir(domain)
        found = {name: aliases.read_alias(directory, name) for name in aliases.ALIASES}
        return {name: alias.version for name, alias in found.items() if alias}

    def champion(self, domain: str) -> ModelRef | None:
        """The version to serve; None where none was promoted yet."""
        alias = aliases.read_alias(self._domain_dir(domain), CHAMPION)
        return ModelRef(domain, alias.version) if alias else None

    def earlier_champions(self, domain: str) -> list[ModelRef]:
        """Those before the champion that are still published, the latest first."""
        return [ModelRef(domain, version) for version in reversed(self._kept_history(domain))]

    def manifest(self, ref: ModelRef) -> Manifest:
        """The version's manifest alone; quick, its files are not verified."""
        return Manifest.read(self._version_dir(ref) / MANIFEST_FILE)

    def open(self, ref: ModelRef) -> Artifact:
        """Verifies everything. Raises ArtifactError naming the file, the rule and the value."""
        return open_artifact(self._version_dir(ref), ref, self._trusted)

    def publish(self, domain: str, build: Callable[[Path], None], manifest: ManifestDraft) -> ModelRef:
        """Writes a new version: visible whole, or not at all.

        build: writes the version's files (see `layout.py`) into the directory it is given.
        Raises ArtifactError where what was built would be refused when opened; nothing is left then.
        """
        directory = self._domain_dir(domain)
        directory.mkdir(parents=True, exist_ok=True)
        temp = directory / f"{_TEMP}{secrets.token_hex(8)}"
        temp.mkdir()
        try:
            build(temp)
            while True:
                ref = ModelRef(domain, self._next_version(domain))
                self._seal(temp, ref, manifest)
                open_artifact(temp, ref, self._trusted)
                try:
                    temp.rename(directory / ref.version)
                except OSError:
                    if not (directory / ref.version).exists():
                        raise
                    continue  # another publisher took the name
                aliases.sync_directory(directory)
                return ref
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def promote(self, domain: str, version: str, *, alias: str = CHAMPION) -> ModelRef:
        """Points the alias at a version, once it is verified. Raises ArtifactError where it is damaged.

        An alias whose own file is damaged is written anew; its history is lost with it.
        """
        ref = ModelRef(domain, version)
        self.open(ref)
        directory = self._domain_dir(domain)
        with aliases.locked(directory):
            try:
                present = aliases.read_alias(directory, alias)
            except ArtifactError as error:
                _log.warning("alias_written_anew", alias=alias, error=str(error))
                present = None
            aliases.write_alias(directory, alias, present.moved_to(version) if present else Alias(version))
        return ref

    def sign(self, ref: ModelRef, signer: Signer) -> None:
        """Signs a version that is there already, in place of an earlier signature.

        Raises ArtifactError where it is damaged. Whether it is good to run is for the caller to know.
        """
        directory = self._version_dir(ref)
        stated = Manifest.stated(directory / MANIFEST_FILE)
        if Manifest.parse(directory / MANIFEST_FILE, stated) != open_artifact(directory, ref).manifest:
            raise ArtifactError(f"{directory / MANIFEST_FILE}: must not change while it is signed")
        temp = (
            directory.parent / f"{_TEMP}{secrets.token_hex(8)}"
        )  # a stray file in the version would be refused
        temp.mkdir()
        try:
            aliases.write_durably(temp / SIGNATURE_FILE, signer.sign(stated))
            (temp / SIGNATURE_FILE).replace(directory / SIGNATURE_FILE)
            aliases.sync_directory(directory)
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def roll_back(self, domain: str) -> ModelRef:
        """Makes the champion before this one the champion again; versions gone since are passed over.

        Raises NotFound where there is none, ArtifactError where it is damaged.
        """
        directory = self._domain_dir(domain)
        if self.champion(domain) is None:
            raise NotFound(f"domain {domain!r} has no champion to roll back")
        with aliases.locked(directory):
            history = self._kept_history(domain)
            if not history:
                raise NotFound(f"domain {domain!r} has no earlier champion to roll back to")
            ref = ModelRef(domain, history[-1])
            self.open(ref)
            aliases.write_alias(directory, CHAMPION, Alias(history[-1], history[:-1]))
        return ref

    def prune(self, domain: str, keep: int) -> list[str]:
        """Removes all but the newest `keep` versions, and what dead publishers left.

        Spares versions with an alias, and the champion before this one, to which a rollback leads.
        Returns the removed versions.
        """
        if keep < 1:
            raise ArtifactError(f"keep must be at least 1, got {keep}")
        directory = self._domain_dir(domain)
        if not directory.is_dir():
            return []
        with aliases.locked(directory):
            champion = aliases.read_alias(directory, CHAMPION)
            spared = set(self.aliases(domain).values()) | set(champion.history[-1:] if champion else ())
            removed = [v for v in self.versions(domain)[:-keep] if v not in spared]
            for version in removed:
                # Renamed first: nobody ever sees half a version.
                (directory / version).rename(directory / f"{_TRASH}{version}-{secrets.token_hex(4)}")
        _remove(self._leftovers(directory))
        return removed

    def _kept_history(self, domain: str) -> tuple[str, ...]:
        """Champions before this one, oldest first, without versions gone since."""
        alias = aliases.read_alias(self._domain_dir(domain), CHAMPION)
        kept = set(self.versions(domain))
        return tuple(v for v in alias.history if v in kept) if alias else ()

    async def watch(self, domain: str, interval_s: float = 1.0) -> AsyncGenerator[ModelRef, None]:
        """Yields the champion now, if any, then whenever it is set anew; polls every `interval_s`.

        A version promoted again is yielded again. A damaged alias is reported once and waited out.
        """
        file = aliases.alias_file(self._domain_dir(domain), CHAMPION)
        seen: tuple[int, int] | None = None
        while True:
            stamp = await asyncio.to_thread(_stamp, file)
            if stamp is not None and stamp != seen:
                seen = stamp
                try:
                    ref = await asyncio.to_thread(self.champion, domain)
                except ArtifactError as error:
                    _log.error("champion_unreadable", domain=domain, error=str(error))
                    ref = None
                if ref is not None:
                    yield ref
            await asyncio.sleep(interval_s)

    def _seal(self, temp: Path, ref: ModelRef, draft: ManifestDraft) -> None:
        """Checksums, manifest, signature, fsync."""
        files = {name: sha256_of(temp / name) for name in files_of(temp)}
        manifest = Manifest.of(
            draft, domain=ref.domain, version=ref.version, created_ms=self._clock_ms(), files=files
        )
        aliases.write_durably(temp / MANIFEST_FILE, manifest.to_json())
        if self._signer is not None:
            aliases.write_durably(temp / SIGNATURE_FILE, self._signer.sign(manifest.to_json()))
        for path in (temp, *temp.rglob("*")):
            if path.is_dir():
                aliases.sync_directory(path)
            else:
                _sync_file(path)

    def _next_version(self, domain: str) -> str:
        """Named after the moment, later than all published ones even where the clock went back."""
        moment = datetime.fromtimestamp(self._clock_ms() / 1000.0, UTC)
        newest = max((t for v in self.versions(domain) if (t := _moment_of(v))), default=None)
        if newest is not None and newest >= moment:
            moment = newest + timedelta(milliseconds=1)
        return f"{moment.strftime(_NAME_FORMAT)[:-3]}Z"

    def _domain_dir(self, domain: str) -> Path:
        broken = domain_rule(domain)
        if broken:
            raise ArtifactError(f"domain {broken}, got {domain!r}")
        return self.root / domain

    def _version_dir(self, ref: ModelRef) -> Path:
        broken = version_rule(ref.version)
        if broken:
            raise ArtifactError(f"version {broken}, got {ref.version!r}")
        path = self._domain_dir(ref.domain) / ref.version
        if not path.is_dir():
            raise ArtifactError(f"{path}: must be a published version, got no such directory")
        return path

    def _leftovers(self, directory: Path) -> Iterable[Path]:
        now_s = time.time()
        for path in directory.iterdir():
            stale = path.name.startswith(_TEMP) and now_s - path.stat().st_mtime > _STALE_TEMP_S
            if stale or path.name.startswith(_TRASH):
                yield path


def _moment_of(version: str) -> datetime | None:
    """When a version was published, by its name; None where the name says nothing."""
    try:
        return datetime.strptime(version, f"{_NAME_FORMAT}Z").replace(tzinfo=UTC)
    except ValueError:
        return None


def _local_directory(root: str | Path) -> Path:
    url = urlsplit(str(root))
    if url.scheme == "file":
        return Path(unquote(url.path)).resolve()
    if "://" in str(root):
        raise ArtifactError(
            f"registry must be a directory (mount the object store on every server), got {str(root)!r}"
        )
    return Path(root).resolve()


def _stamp(file: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
