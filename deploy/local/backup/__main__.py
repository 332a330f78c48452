"""`python -m deploy.local.backup save|erasures|restore|show …`: prints one JSON object, or an error.

Run by `warmstart store`, which knows where the cluster is and holds its directory where it is down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.local.backup.archive import described, read_about, read_erasures, write_erasures
from deploy.local.backup.restoring import Known, restore
from deploy.local.backup.saving import erasures, save
from deploy.local.backup.scratch import scratch_store
from services.features.settings import FeatureSettings
from services.features.store.address import StoreAddress
from services.features.store.connection import Store
from shared.errors import WarmstartError
from shared.settings import load

_COMMAND_S = 600.0


def main(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was begun is removed
    given = _parser().parse_args(arguments)
    try:
        answer = asyncio.run(_COMMANDS[given.command](given))
    except (WarmstartError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


async def _save(given: argparse.Namespace) -> dict[str, Any]:
    async with _store(given) as store:
        return described(await save(store, given.file))


async def _erasures(given: argparse.Namespace) -> dict[str, Any]:
    settings = load(FeatureSettings)
    async with _store(given) as store:
        listed = await erasures(store, settings.deletion_secret.get_secret_value())
    write_erasures(given.file, listed)
    return {"made_ms": listed.made_ms, "erased": {d.domain: len(d.people) for d in listed.domains}}


async def _restore(given: argparse.Namespace) -> dict[str, Any]:
    known = Known(nobody=given.nobody_erased)
    if given.erasures:
        listed = read_erasures(given.erasures)
        known = Known(listed.domains, listed.made_ms, given.nobody_erased)
    done = await restore(given.file, given.data_dir, load(FeatureSettings), known, replace=given.replace)
    return {
        "backup": described(done.about),
        "replayed": asdict(done.replayed),
        "set_aside": done.set_aside,
    }


async def _show(given: argparse.Namespace) -> dict[str, Any]:
    return described(await asyncio.to_thread(read_about, given.file))


_COMMANDS = {"save": _save, "erasures": _erasures, "restore": _restore, "show": _show}


@asynccontextmanager
async def _store(given: argparse.Namespace) -> AsyncIterator[Store]:
    """The running one, or that of a data directory whose cluster is down."""
    if not given.store_url:
        async with scratch_store(given.data_dir / "valkey", appendonly=True) as store:
            yield store
        return
    store = Store(StoreAddress(given.store_url, timeout_s=_COMMAND_S))
    try:
        yield store
    finally:
        await store.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.backup")
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--store-url", default="")
    parser.add_argument("--data-dir", type=Path, default=Path("var"))
    parser.add_argument("--erasures", type=Path)
    parser.add_argument("--nobody-erased", action="store_true")
    parser.add_argument("--replace", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
