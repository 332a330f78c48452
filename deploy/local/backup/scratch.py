"""A Valkey of our own on a directory, reached by a socket that nobody else knows, for the time of a block."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.backup.archive import BackupError
from deploy.local.valkey import LocalValkey
from services.features.store.address import StoreAddress
from services.features.store.connection import Store
from shared.errors import Unavailable
from shared.processes import leash

_POLL_S = 0.05
_TAIL_LINES = 5
# Loading and syncing take as long as they take; a command of ours on a large store may as well.
_COMMAND_S = 600.0


@asynccontextmanager
async def scratch_store(directory: Path, *, appendonly: bool) -> AsyncIterator[Store]:
    """Yields once the directory's data are loaded: its append-only file, or its `dump.rdb`. Ended in order at
    the end, so that all is on disk. Raises BackupError where Valkey does not take the data."""
    sockets = Path(tempfile.mkdtemp(prefix="warmstart-"))  # paths of sockets must be short
    server = LocalValkey(directory, port=0, socket=sockets / "s", appendonly=appendonly)
    log = sockets / "log"
    process = _begin(server, log)
    store = Store(StoreAddress(server.url, timeout_s=_COMMAND_S, connect_timeout_s=_COMMAND_S))
    try:
        await _until_loaded(store, process, log)
        yield store
        await store.close()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait)
        if code != 0:
            raise BackupError(f"valkey ended with code {code} on {directory}: {_tail(log)}")
    finally:
        await store.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        shutil.rmtree(sockets, ignore_errors=True)


async def background_save(store: Store) -> int:
    """A snapshot as of now in the store's directory; when it began, in milliseconds since the Unix epoch.

    Waits for one that is being made: it began before. Raises BackupError where it fails, as on a full disk.
    """
    while True:
        before = await info(store, "persistence")
        if before["rdb_bgsave_in_progress"] == "0" and before["aof_rewrite_in_progress"] == "0":
            began_ms = time.time_ns() // 1_000_000
            await store.one("BGSAVE")
            break
        await asyncio.sleep(_POLL_S)
    while True:
        now = await info(store, "persistence")
        if now["rdb_bgsave_in_progress"] == "0":
            if now["rdb_last_bgsave_status"] != "ok" or now["rdb_saves"] == before["rdb_saves"]:
                raise BackupError("the store cannot write a snapshot: see its log (is its disk full?)")
            return began_ms
        await asyncio.sleep(_POLL_S)


async def append_only(store: Store) -> None:
    """Turns the append-only file on and returns once all data are in it."""
    await store.one("CONFIG", "SET", "appendonly", "yes")
    while True:
        now = await info(store, "persistence")
        if now["aof_rewrite_in_progress"] == "0" and now["aof_rewrite_scheduled"] == "0":
            if now["aof_last_bgrewrite_status"] != "ok" or now["aof_enabled"] != "1":
                raise BackupError("the store cannot write its append-only file (is the disk full?)")
            return
        await asyncio.sleep(_POLL_S)


async def info(store: Store, section: str) -> dict[str, str]:
    text: str = (await store.one("INFO", section)).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _begin(server: LocalValkey, log: Path) -> subprocess.Popen[bytes]:
    """On a leash: it does not outlive us."""
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, str(leash.__file__), *server.command()], stdout=out, stderr=out
        )


async def _until_loaded(store: Store, process: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        try:
            await store.one("PING")
            return
        except Unavailable:
            if process.poll() is not None:
                raise BackupError(f"valkey cannot load the data: {_tail(log)}") from None
        await asyncio.sleep(_POLL_S)


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
