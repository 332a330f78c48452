"""A file → a data directory's store, beside the present one and then in its place.

What was erased since the backup is erased again before anybody can ask for it; every domain gets a new epoch,
so that followers of items begin anew instead of going on at a revision that now means something else.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.backup.archive import About, BackupError, sync_directory, unpack
from deploy.local.backup.scratch import append_only, scratch_store
from services.features.settings import FeatureSettings
from services.features.store.connection import Store
from services.features.store.erasures import ErasureList, Replayed, erasures_of, replay
from services.features.store.inventory import count_keys, domains_of, inventory
from services.features.store.keys import schema_key
from services.features.store.schema import new_epoch
from shared.errors import SettingsError

_DUMP = "dump.rdb"
_NEW, _REPLACED, _BEFORE = "valkey.restoring", "valkey.replaced", "valkey.before-"
_TELL = "give their list with --erasures FILE, or say --nobody-erased, else erased people would come back"


@dataclass(frozen=True, slots=True)
class Known:
    """Erasures to replay beside those of the present store. made_ms: when they were listed, since the Unix
    epoch; nobody: the operator says that there were no others since the backup."""

    lists: Sequence[ErasureList] = ()
    made_ms: int = 0
    nobody: bool = False

    def tells_since(self, backup_ms: int) -> bool:
        """Whether the lists say who was erased after a moment: older ones cannot."""
        return bool(self.lists) and self.made_ms >= backup_ms


@dataclass(frozen=True, slots=True)
class Restored:
    """set_aside: where the store of before is now, "" where there was none."""

    about: About
    replayed: Replayed
    set_aside: str


async def restore(
    file: Path, data_dir: Path, settings: FeatureSettings, known: Known, *, replace: bool
) -> Restored:
    """Nothing of the present store is touched until the new one is whole and on disk. The cluster is down.

    Raises BackupError where the file is not whole, where a store with data is there and `replace` is not
    said, or where nothing tells who was erased since; SettingsError where a schema in it is not ours to use.
    """
    present, fresh = data_dir / "valkey", data_dir / _NEW
    _end_swap(present)
    shutil.rmtree(fresh, ignore_errors=True)  # of a restore that was killed
    fresh.mkdir(parents=True)
    try:
        about = unpack(file, fresh / _DUMP)
        if known.lists and not (known.nobody or known.tells_since(about.made_ms)):
            raise BackupError(f"the list of erasures must be from after the backup: {_TELL}")
        there = await _present(present, settings, known, replace=replace)
        replayed = await _prepare(fresh, about, [*known.lists, *there.erasures], settings, known)
        return Restored(about, replayed, _put_in_place(fresh, present, keep=there.keys > 0))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Present:
    """The store of before; keys: how many, 1 where it cannot be asked."""

    keys: int = 0
    erasures: Sequence[ErasureList] = ()


async def _present(present: Path, settings: FeatureSettings, known: Known, *, replace: bool) -> _Present:
    if not _is_store(present):
        return _Present()
    try:
        async with scratch_store(present, appendonly=True) as store:
            keys = await count_keys(store)
            lists = await erasures_of(store, settings.deletion_secret.get_secret_value())
            found = _Present(keys, lists)
    except (BackupError, SettingsError) as error:
        if not (known.lists or known.nobody):
            raise BackupError(
                f"the present store cannot be asked who was erased since the backup ({error}): {_TELL}"
            ) from error
        found = _Present(keys=1)
    if found.keys and not replace:
        raise BackupError(
            f"{present} holds data: say --replace to put the backup in their place (they are set aside)"
        )
    return found


def _is_store(directory: Path) -> bool:
    return any(directory.glob("appendonlydir/*"))


async def _prepare(
    fresh: Path, about: About, lists: Sequence[ErasureList], settings: FeatureSettings, known: Known
) -> Replayed:
    """The snapshot's data in an append-only file, counted, with erasures replayed and epochs of their own."""
    secret = settings.deletion_secret.get_secret_value()
    async with scratch_store(fresh, appendonly=False) as store:
        found = await inventory(store)
        if (await count_keys(store), found) != (about.keys, list(about.domains)):
            raise BackupError(f"the backup must hold {_counts(about.domains)}, got {_counts(found)}")
        fits = await _fitting(store, about.made_ms, lists, settings, known)
        replayed = await replay(
            store,
            fits,
            secret,
            half_life_s=int(settings.trending_half_life_hours * 3600),
            max_trending=settings.trending_items,
        )
        await _renew(store, about.made_ms, fits)
        await append_only(store)
    (fresh / _DUMP).unlink()
    return replayed


async def _fitting(
    store: Store, made_ms: int, lists: Sequence[ErasureList], settings: FeatureSettings, known: Known
) -> list[ErasureList]:
    """Those that tell of the backup's people. Another store's, such as one that was begun since, tells of
    others: it must not pass for one that says that nobody was erased. Nor must the same one where it lost its
    data after the backup: whom it knows is erased again, but others may have been erased before.

    Raises BackupError for a domain that none tells of; SettingsError where a domain is not ours to work on.
    """
    own = await erasures_of(store, settings.deletion_secret.get_secret_value())
    fits = [(o, e) for o in own for e in lists if _key(o) == _key(e)]
    told = {o.domain for o, e in fits if e.tells_since(made_ms)}
    untold = sorted({o.domain for o in own} - told)
    if untold and not known.nobody:
        raise BackupError(
            f"nothing tells who of domain {', '.join(map(repr, untold))} was erased since the backup: {_TELL}"
        )
    return [erasures for _, erasures in fits]


def _key(one: ErasureList) -> tuple[str, int, str]:
    return one.domain, one.shards, one.secret_check


async def _renew(store: Store, made_ms: int, replayed: Sequence[ErasureList]) -> None:
    """Epochs of their own. Who was erased is known since the backup's store began (before the backup, where
    an old one does not say when) or, with what was replayed, since longer."""
    for domain in await domains_of(store):
        key = schema_key(domain)
        lists = [e.began_ms for e in replayed if e.domain == domain and e.tells_since(made_ms)]
        began = min(
            made_ms, int(await store.one("HGET", key, "began_ms")), *(b for b in lists if b is not None)
        )
        await store.one("HSET", key, "epoch", new_epoch(), "began_ms", began, write=True)


def _put_in_place(fresh: Path, present: Path, *, keep: bool) -> str:
    """Where the store of before is then. `valkey.replaced` is there while neither may be in its place."""
    if keep:
        present.rename(present.with_name(_REPLACED))
    elif present.exists():
        shutil.rmtree(present)
    try:
        fresh.rename(present)
        sync_directory(present.parent)
    finally:
        aside = _end_swap(present)
    return aside


def _end_swap(present: Path) -> str:
    """Sets a replaced store aside, or puts it back where nothing took its place, as after a kill."""
    replaced = present.with_name(_REPLACED)
    if not replaced.exists():
        return ""
    if present.exists():
        stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
        target = present.with_name(f"{_BEFORE}{stamp}")
    else:
        target = present
    replaced.rename(target)
    sync_directory(present.parent)
    return str(target)


def _counts(domains: Sequence[object]) -> str:
    return "; ".join(map(str, domains)) or "no domain"
