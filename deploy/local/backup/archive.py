"""A backup's file: a tar of `backup.json`, which says what is in it, and `store.rdb`, Valkey's own snapshot.

It holds people's data: only its owner may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from services.features.store.erasures import ErasureList
from services.features.store.inventory import DomainInventory
from shared.errors import WarmstartError

FORMAT = 1
SNAPSHOT = "store.rdb"
_ABOUT = "backup.json"
_MAX_ABOUT_BYTES = 16 << 20
_CHUNK = 1 << 20


class BackupError(WarmstartError):
    """A backup cannot be made, read or restored; the message says why and what to do."""

    reason = "BACKUP"


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself. made_ms: when its snapshot began, since the Unix epoch: what was
    acknowledged before is in it; keys: of the whole store; bytes, sha256: of the snapshot."""

    format: int
    made_ms: int
    valkey: str
    keys: int
    domains: Sequence[DomainInventory]
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Erasures:
    """The file of `warmstart store erasures`."""

    format: int
    made_ms: int
    domains: Sequence[ErasureList]


_ABOUT_JSON: TypeAdapter[About] = TypeAdapter(About)
_ERASURES_JSON: TypeAdapter[Erasures] = TypeAdapter(Erasures)


def write_backup(file: Path, draft: Path, about: About, snapshot: Path) -> None:
    """file: appears whole, or not at all; draft: on the same file system, where it is written."""
    with open(draft, "xb", opener=_owner_only) as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            text = _ABOUT_JSON.dump_json(about, indent=2)
            tar.addfile(_member(_ABOUT, len(text)), BytesIO(text))
            with snapshot.open("rb") as content:
                tar.addfile(_member(SNAPSHOT, about.bytes), content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    sync_directory(file.parent)


def read_about(file: Path) -> About:
    """What it says of itself, once its contents are known to be whole.

    Raises BackupError where it is no backup, cut short, altered, or of a later format.
    """
    return _checked(file, lambda content: _drained(content, lambda _: None))


def unpack(file: Path, snapshot: Path) -> About:
    """The same, and writes the snapshot; nothing is left at `snapshot` where BackupError is raised."""
    try:
        return _checked(file, lambda content: copy(content, snapshot))
    except BackupError:
        snapshot.unlink(missing_ok=True)
        raise


def _checked(file: Path, take: Callable[[IO[bytes]], tuple[int, str]]) -> About:
    """take: reads the snapshot to its end; (bytes, sha256)."""
    with _opened(file) as tar:
        about = _about(tar, file)
        try:
            member = tar.next()
            content = tar.extractfile(member) if member is not None else None
            if member is None or member.name != SNAPSHOT or content is None:
                raise BackupError(f"{file}: must hold {SNAPSHOT} after {_ABOUT}: it is cut short")
            size, digest = take(content)
        except (tarfile.TarError, EOFError) as error:
            raise BackupError(f"{file}: is cut short or damaged: {error}") from error
    for what, found, stated in (("bytes", size, about.bytes), ("sha256", digest, about.sha256)):
        if found != stated:
            raise BackupError(f"{file}: {what} of {SNAPSHOT} must be {stated}, got {found}: it is damaged")
    return about


def write_erasures(file: Path, erasures: Erasures) -> None:
    """Whole or not at all, in place of an earlier one.

    Raises BackupError where the earlier one tells more than this one does: a store that lost its data would
    take the last trace of it with it. What is no such file is not written over either.
    """
    if file.exists() and (lost := _lost(_present(file), erasures)):
        raise BackupError(
            f"{file} must tell nothing that the store does not know, got {'; '.join(lost)}: the store has "
            "lost its data since, or is another one; keep that file for a restore, and write to another"
        )
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with open(draft, "wb", opener=_owner_only) as stream:
        stream.write(_ERASURES_JSON.dump_json(erasures, indent=2))
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    sync_directory(file.parent)


def _present(file: Path) -> Erasures:
    try:
        return read_erasures(file)
    except BackupError as error:
        raise BackupError(
            f"{file} must be a list of erasures, as it would be written over: give another name ({error})"
        ) from error


def _lost(before: Erasures, now: Erasures) -> list[str]:
    """What the list of before tells and that of now does not, domain by domain."""
    lists = {one.domain: one for one in now.domains}
    lost = []
    for one in before.domains:
        there = lists.get(one.domain)
        known = {p.keyed_hash: p.time_ms for p in there.people} if there is not None else {}
        gone = sum(p.time_ms > known.get(p.keyed_hash, -1) for p in one.people)
        if gone:
            lost.append(f"{gone} erasures of domain {one.domain!r}")
        elif one.began_ms is not None and (there is None or not there.tells_since(one.began_ms)):
            lost.append(f"who was erased of domain {one.domain!r} before it was begun again")
    return lost


def read_erasures(file: Path) -> Erasures:
    """Raises BackupError where it is none, or of a later format."""
    text = file.read_bytes()
    _check_format(file, text)
    try:
        return _ERASURES_JSON.validate_json(text)
    except ValidationError as error:
        raise BackupError(f"{file}: must be a file of `warmstart store erasures`: {_words(error)}") from error


def copy(source: IO[bytes], target: Path) -> tuple[int, str]:
    """Durably; (bytes, sha256)."""
    with open(target, "wb", opener=_owner_only) as stream:
        told = _drained(source, stream.write)
        stream.flush()
        os.fsync(stream.fileno())
    return told


def _drained(source: IO[bytes], take: Callable[[bytes], object]) -> tuple[int, str]:
    """Reads to the end, a piece at a time; (bytes, sha256)."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        take(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def described(about: About) -> dict[str, object]:
    """For people and programs."""
    return asdict(about)


def sync_directory(directory: Path) -> None:
    """Makes renames inside it durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, mode="r:")
    except tarfile.TarError as error:
        raise BackupError(f"{file}: must be a backup of `warmstart store backup`: {error}") from error


def _about(tar: tarfile.TarFile, file: Path) -> About:
    try:
        member = tar.next()
        content = tar.extractfile(member) if member is not None and member.name == _ABOUT else None
        if member is None or content is None or member.size > _MAX_ABOUT_BYTES:
            raise BackupError(f"{file}: must be a backup of `warmstart store backup`: no {_ABOUT} in it")
        text = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{file}: is cut short or damaged: {error}") from error
    _check_format(file, text)
    try:
        return _ABOUT_JSON.validate_json(text)
    except ValidationError as error:
        raise BackupError(f"{file}: {_ABOUT} is damaged: {_words(error)}") from error


def _check_format(file: Path, text: bytes) -> None:
    try:
        stated = json.loads(text)
    except ValueError as error:
        raise BackupError(f"{file}: is cut short or damaged: {error}") from error
    version = stated.get("format") if isinstance(stated, Mapping) else None
    if version != FORMAT:
        raise BackupError(f"{file}: format must be {FORMAT}, got {version!r}: use the version that wrote it")


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _words(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()[:3])
