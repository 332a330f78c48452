"""Keys change while the doors serve: whoever holds a good one notices nothing, and a bad one is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest
from jwt.algorithms import RSAAlgorithm

from shared.auth.key_file import change_keys, encode_keys, read_keys
from shared.auth.keys import revoked
from tests.doors import RPCS
from tests.integration.auth.doors import NOW, Doors, bearer, request_of
from tests.unit.shared.auth.signing import OTHER_RSA_KEY, jwk, signed

pytestmark = pytest.mark.asyncio(loop_scope="package")

GET_ITEMS = RPCS["GetItems"]
ROTATIONS = 5
CALLERS = 4
# Files are looked at four times a second; the machine may be busy with something else.
SOON_S = 10.0


@dataclass
class Load:
    """Steady calls with whatever credential is current."""

    doors: Doors
    credential: str
    codes: list[str] = field(default_factory=list)

    async def call(self) -> str:
        return await self.doors.code(GET_ITEMS, request_of(GET_ITEMS), bearer(self.credential))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def keep_calling() -> None:
            while True:
                self.codes.append(await self.call())

        tasks = [asyncio.ensure_future(keep_calling()) for _ in range(CALLERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def code_of(doors: Doors, credential: str) -> str:
    return await doors.code(GET_ITEMS, request_of(GET_ITEMS), bearer(credential))


async def seconds_until(doors: Doors, credential: str, wanted: str) -> float:
    started = time.monotonic()
    async with asyncio.timeout(10.0):
        while await code_of(doors, credential) != wanted:
            await asyncio.sleep(0.005)
    return time.monotonic() - started


def revoke(path: Path, credential: str) -> None:
    key_id = credential.split("_")[1]
    change_keys(path, lambda keys: [revoked(k, NOW) if k.key_id == key_id else k for k in keys])


async def test_keys_are_rotated_under_load_without_a_failure(both: Doors) -> None:
    """A new key is made, callers move to it, the old one is revoked, and is refused within a second."""
    load = Load(both, both.keys.add())
    await seconds_until(both, load.credential, "OK")
    took_s: list[float] = []
    async with load.running():
        for _ in range(ROTATIONS):
            old, fresh = load.credential, both.keys.add()
            await seconds_until(both, fresh, "OK")
            load.credential = fresh
            before = len(load.codes)
            async with asyncio.timeout(10.0):
                while len(load.codes) < before + CALLERS:  # whoever held the old key has been answered
                    await asyncio.sleep(0.005)
            revoke(both.keys.path, old)
            took_s.append(await seconds_until(both, old, "UNAUTHENTICATED"))
    failed = [code for code in load.codes if code != "OK"]
    told = f"{len(load.codes)} calls over {ROTATIONS} rotations, {len(failed)} failed"
    print(f"\n{told}; revoked keys refused within {max(took_s):.2f} s")  # noqa: T201 - the figures
    assert failed == []
    assert len(load.codes) >= CALLERS * ROTATIONS
    assert median(took_s) < SOON_S


async def test_a_broken_file_leaves_the_keys_before_it_under_load(both: Doors) -> None:
    path = both.keys.path.resolve()
    load = Load(both, both.keys.add())
    await seconds_until(both, load.credential, "OK")
    good = path.read_bytes()
    async with load.running():
        for broken in (b"", good[: len(good) // 2], b'{"version": 9, "keys": []}'):
            draft = path.with_suffix(".draft")
            draft.write_bytes(broken)
            draft.replace(path)
            before = len(load.codes)
            await asyncio.sleep(0.6)  # two looks at the file
            assert len(load.codes) > before
        path.unlink()
        await asyncio.sleep(0.6)
    path.write_bytes(good)
    assert [code for code in load.codes if code != "OK"] == []
    fresh = both.keys.add()
    assert await seconds_until(both, fresh, "OK") < SOON_S


async def test_a_mounted_secret_is_swapped_under_load(both: Doors) -> None:
    load, leaving = Load(both, both.keys.add()), both.keys.add()
    await seconds_until(both, leaving, "OK")
    async with load.running():
        mounted = both.keys.path.parent
        version = mounted / "another"
        version.mkdir()
        kept = [k for k in read_keys(both.keys.path) if k.key_id != leaving.split("_")[1]]
        (version / both.keys.path.name).write_bytes(encode_keys(kept))
        (mounted / "..next").symlink_to(version.name)
        (mounted / "..next").replace(mounted / "..data")
        assert await seconds_until(both, leaving, "UNAUTHENTICATED") < SOON_S
    assert [code for code in load.codes if code != "OK"] == []


async def test_public_keys_are_rotated_and_what_a_gone_one_signed_is_refused(both: Doors) -> None:
    """Tokens are remembered: not beyond their key."""
    token, fresh = signed(scope="catalogue"), signed(OTHER_RSA_KEY, kid="next", scope="catalogue")
    assert [await code_of(both, t) for t in (token, fresh)] == ["OK", "UNAUTHENTICATED"]
    before = both.public_keys.read_bytes()
    both.public_keys.write_text(json.dumps({"keys": [jwk(RSAAlgorithm, OTHER_RSA_KEY, "next")]}))
    assert await seconds_until(both, fresh, "OK") < SOON_S
    assert await code_of(both, token) == "UNAUTHENTICATED"
    both.public_keys.write_bytes(before)
    assert await seconds_until(both, token, "OK") < SOON_S
