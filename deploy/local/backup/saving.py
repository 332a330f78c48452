"""A running store → a file, or the list of whom it has erased."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.backup.archive import FORMAT, SNAPSHOT, About, BackupError, Erasures, copy, write_backup
from deploy.local.backup.scratch import background_save, info, scratch_store
from services.features.store.connection import Store
from services.features.store.erasures import erasures_of
from services.features.store.inventory import count_keys, inventory
from shared.processes.lock import FileLock

_DUMP = "dump.rdb"
_LOCK = "lock"


async def save(store: Store, file: Path) -> About:
    """Snapshot (of one moment, while the store serves) → loaded by a Valkey of our own, which shows that it
    can be and counts it → file. Raises BackupError where the file is there, or anything fails.

    store: a single server on this machine.
    """
    with _workshop(file) as directory:
        made_ms = await background_save(store)
        snapshot = directory / _DUMP
        size, digest = await _take(store, snapshot)
        valkey = (await info(store, "server")).get("valkey_version", "")
        async with scratch_store(directory, appendonly=False) as loaded:
            keys, domains = await count_keys(loaded), await inventory(loaded)
        about = About(FORMAT, made_ms, valkey, keys, domains, size, digest)
        write_backup(file, directory / SNAPSHOT, about, snapshot)
    return about


async def erasures(store: Store, secret: str) -> Erasures:
    return Erasures(FORMAT, time.time_ns() // 1_000_000, await erasures_of(store, secret))


async def _take(store: Store, snapshot: Path) -> tuple[int, str]:
    """Out of the store's directory, where it would keep people who are erased later."""
    reply = await store.one("CONFIG", "GET", "dir")
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    dump = Path(pairs[b"dir"].decode()) / _DUMP
    try:
        with dump.open("rb") as content:
            return copy(content, snapshot)
    except FileNotFoundError:
        raise BackupError(f"{dump} must be on this machine: back up a store elsewhere there") from None
    finally:
        dump.unlink(missing_ok=True)


@contextmanager
def _workshop(file: Path) -> Iterator[Path]:
    """A directory beside the file, gone at the end; those of killed backups are removed first.

    Raises BackupError where the file is there.
    """
    if file.exists():
        raise BackupError(f"{file} is there already: give another name, a backup is never overwritten")
    file.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{file.name}.partial-"
    for left in file.parent.glob(f"{prefix}*"):
        lock = FileLock(left / _LOCK)
        if left.is_dir() and not lock.take():
            shutil.rmtree(left, ignore_errors=True)
            lock.let_go()
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=file.parent))
    lock = FileLock(directory / _LOCK)
    try:
        lock.take()
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.let_go()
