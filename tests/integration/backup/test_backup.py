"""Backup while serving, restore, and what must hold after: nothing acknowledged before it is lost, nobody who
was erased comes back, nobody goes on where the store no longer is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.gateway.catalogue.follower import Catalogue
from services.gateway.clients import Clients
from services.gateway.settings import GatewaySettings
from shared.errors import WarmstartError
from shared.inference.clients import FeatureItemFeed
from shared.inference.follower import ItemFollower
from shared.rpc.health import wait_until_serving
from tests.cluster import clean_environment, warmstart
from tests.integration.backup.conftest import DataDir
from tests.integration.features.client import Features, event, item, relation, until
from tests.integration.features.conftest import serving
from tests.integration.lifecycle.process import started
from tests.ports import free_port

pytestmark = pytest.mark.timeout(240)
DOMAIN = "shop"


@asynccontextmanager
async def features_on(data: DataDir) -> AsyncIterator[Features]:
    async with serving(data.store, DOMAIN) as features:
        yield features


async def held(features: Features) -> list[bytes]:
    """All that lists are made from, as it is answered."""
    contexts = [await features.context(f"u{n}") for n in range(5)]
    for answer in contexts:
        answer.context.request.time_ms = 0
    trending = await features.ask("ListTrendingItems")
    items = await features.ask("ListItems", page_size=1000)
    answers = [*(answer.context for answer in contexts), items]
    told = [answer.SerializeToString(deterministic=True) for answer in answers]
    return [*told, repr([one.item_id for one in trending.items]).encode()]


async def stocked(features: Features) -> None:
    await features.put(*(item(f"i{n}", f"Title {n}", ["drama"]) for n in range(20)))
    await features.record(*(event(f"u{n % 5}", f"i{n}", event_id=f"e{n}") for n in range(20)))
    await features.relate(relation("u0", "u1", kind="friend"), relation("u2", "u0", kind="friend"))


async def test_what_was_acknowledged_before_the_backup_is_there_after_a_restore_elsewhere(
    data_dir: DataDir, tmp_path: Path
) -> None:
    """Made under load; restored into a fresh directory: the same answers, and ids are still known."""
    async with features_on(data_dir) as features:
        await stocked(features)
        acknowledged: list[str] = []

        async def keep_recording() -> None:
            for n in range(100_000):
                await features.record(event("busy", f"i{n % 20}", event_id=f"b{n}"))
                acknowledged.append(f"b{n}")

        recording = asyncio.create_task(keep_recording())
        await until(lambda: _true(len(acknowledged) > 50), says="events are recorded")
        before, told = len(acknowledged), await held(features)
        page_token = (await features.ask("ListItems", page_size=5)).next_page_token
        second_page = await features.ask("ListItems", page_size=5, page_token=page_token)
        done = await asyncio.to_thread(data_dir.backup, tmp_path / "b.tar")
        during = len(acknowledged)
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
        assert done.code == 0, done.err
        assert during > before  # it served meanwhile
    about = done.json()
    (domain,) = about["domains"]
    assert (domain["domain"], domain["items"], domain["people"]) == (DOMAIN, 20, 6)
    assert 20 + before <= domain["events"] <= 20 + len(acknowledged)
    assert domain["last_event"]["event_id"] == f"b{domain['events'] - 21}"
    assert oct((tmp_path / "b.tar").stat().st_mode & 0o777) == "0o600"
    assert not (data_dir.root / "valkey/dump.rdb").exists()  # people erased later would stay in it

    fresh = DataDir(tmp_path / "elsewhere")
    try:
        restored = fresh.restore(tmp_path / "b.tar", "--nobody-erased")
        assert restored.code == 0, restored.err
        assert restored.json()["set_aside"] == ""
        async with features_on(fresh) as features:
            assert await held(features) == told
            assert await features.ask("ListItems", page_size=5, page_token=page_token) == second_page
            exported = {e.event_id for e in await features.exported()}
            assert exported >= {f"e{n}" for n in range(20)} | set(acknowledged[:before])
            # Sent again, as one does after a restore: what is there stays once, what came since is taken.
            assert await features.record(event("u0", "i0", event_id="e0")) == [2]
            assert await features.record(event("busy", "i0", event_id="of after")) == [1]
        fresh.store.kill()
        fresh.store.start()  # it is in the append-only file by now
        async with features_on(fresh) as features:
            assert await held(features) == told
    finally:
        fresh.store.kill()


async def _true(value: bool) -> bool:
    return value


async def nothing_of(features: Features, data: DataDir, user_id: str) -> None:
    """Neither an answer nor a key nor an entry of the logs names the person."""
    assert await features.history(user_id) == []
    assert user_id not in {e.user_id for e in await features.exported(include_impressions=True)}
    assert user_id not in {u.user_id for u in (await features.exported_users())[0]}
    with data.store.client() as client:
        for key in client.scan_iter():
            assert f":{user_id}".encode() not in key, key
            if client.type(key) == b"hash":
                fields = client.hgetall(key)
                assert not any(user_id.encode() in field for field in fields), (key, fields)


async def erased_since(data: DataDir, file: Path, *, then: Callable[[], Any] = lambda: None) -> None:
    """A backup with `u0` in it, who is erased after it; then: something more before the store stops."""
    async with features_on(data) as features:
        await stocked(features)
        assert data.backup(file).code == 0
        assert (await features.ask("DeleteUser", user_id="u0")).existed
        await asyncio.sleep(0)
        then()


async def test_who_was_erased_since_the_backup_stays_erased_by_what_the_present_store_knows(
    data_dir: DataDir, tmp_path: Path
) -> None:
    await erased_since(data_dir, tmp_path / "b.tar")
    refused = data_dir.restore(tmp_path / "b.tar")
    assert refused.code == 1
    assert "holds data: say --replace" in refused.err
    async with features_on(data_dir) as features:
        assert await features.history("u1")  # unharmed
    done = data_dir.restore(tmp_path / "b.tar", "--replace")
    assert done.code == 0, done.err
    assert done.json()["replayed"] == {"erased": 1, "marks": 1}
    assert Path(done.json()["set_aside"]).name in {path.name for path in data_dir.root.iterdir()}
    async with features_on(data_dir) as features:
        await nothing_of(features, data_dir, "u0")
        assert await features.history("u1")
        trending = await features.ask("ListTrendingItems")
        assert not {"i0", "i5", "i10", "i15"} & {one.item_id for one in trending.items}
        # What comes late of the person is refused, as before the restore.
        assert await features.record(event("u0", "i1", event_id="late")) == [3]


async def test_who_was_erased_stays_erased_by_the_list_where_the_store_is_lost(
    data_dir: DataDir, tmp_path: Path
) -> None:
    erasures = tmp_path / "erasures.json"

    def listed() -> None:
        done = data_dir.run("erasures", erasures, "--store-url", data_dir.store.url)
        assert done.code == 0, done.err
        assert done.json()["erased"] == {DOMAIN: 1}

    other = tmp_path / "notes.txt"
    other.write_text("something else")
    refused = data_dir.run("erasures", other, "--store-url", data_dir.store.url)
    assert (refused.code, other.read_text()) == (1, "something else")
    assert "must be a list of erasures, as it would be written over: give another name" in refused.err
    await erased_since(data_dir, tmp_path / "b.tar", then=listed)
    assert "u0" not in erasures.read_text()  # hashes, no ids
    older = tmp_path / "older.json"
    older.write_text(json.dumps({**json.loads(erasures.read_text()), "made_ms": 1}))
    fresh = DataDir(tmp_path / "elsewhere")
    try:
        refused = fresh.restore(tmp_path / "b.tar")
        assert refused.code == 1
        assert f"nothing tells who of domain '{DOMAIN}' was erased since the backup" in refused.err
        stale = fresh.restore(tmp_path / "b.tar", "--erasures", older)
        assert stale.code == 1
        assert "the list of erasures must be from after the backup" in stale.err
        done = fresh.restore(tmp_path / "b.tar", "--erasures", erasures)
        assert done.code == 0, done.err
        async with features_on(fresh) as features:
            await nothing_of(features, fresh, "u0")
    finally:
        fresh.store.kill()


async def test_a_store_that_was_begun_since_does_not_pass_for_one_that_erased_nobody(
    data_dir: DataDir, tmp_path: Path
) -> None:
    await erased_since(data_dir, tmp_path / "b.tar")
    fresh = DataDir(tmp_path / "elsewhere")
    try:
        async with features_on(fresh):
            pass  # it has a schema, under a secret of its own, and nobody in it
        refused = fresh.restore(tmp_path / "b.tar", "--replace")
        assert refused.code == 1
        assert "nothing tells who" in refused.err
    finally:
        fresh.store.kill()


async def emptied_under_its_servers(data: DataDir, file: Path, erasures: Path) -> None:
    """A backup; `u0` is erased and listed; the store loses all, and gets its schema again."""
    async with features_on(data) as features:
        await stocked(features)
        assert data.backup(file).code == 0
        assert (await features.ask("DeleteUser", user_id="u0")).existed
        assert data.run("erasures", erasures, "--store-url", data.store.url).code == 0
        with data.store.client() as client:
            client.flushall()

        async def written_again() -> bool:
            with data.store.client() as client:
                return bool(client.exists(f"{{{DOMAIN}:meta}}:schema"))

        await until(written_again, says="the schema is there again")
        assert (await features.record(event("u1", "i1", event_id="since"))) == [1]


async def test_a_store_that_was_emptied_since_does_not_pass_for_one_that_erased_nobody(
    data_dir: DataDir, tmp_path: Path
) -> None:
    """Same domain, shards and secret: its list is empty because it lost it. So is a file made of it since."""
    file, erasures, since = (tmp_path / name for name in ("b.tar", "erasures.json", "since.json"))
    await emptied_under_its_servers(data_dir, file, erasures)
    good = erasures.read_bytes()
    over = data_dir.run("erasures", erasures, "--store-url", data_dir.store.url)
    assert (over.code, erasures.read_bytes()) == (1, good)
    assert f"must tell nothing that the store does not know, got 1 erasures of domain '{DOMAIN}'" in over.err
    # Nor over one of fewer, or later, erasures that was begun before.
    for change in ({"people": []}, {"began_ms": None}):
        content = json.loads(good)
        content["domains"][0].update(change)
        erasures.write_text(json.dumps(content))
        assert data_dir.run("erasures", erasures, "--store-url", data_dir.store.url).code == 1
    erasures.write_bytes(good)
    assert data_dir.run("erasures", since, "--store-url", data_dir.store.url).code == 0
    of_before = tmp_path / "of_before.json"
    content = json.loads(since.read_text())
    for domain in content["domains"]:
        del domain["began_ms"]
    of_before.write_text(json.dumps(content))
    for options in ([], ["--erasures", since], ["--erasures", of_before]):
        refused = data_dir.restore(file, "--replace", *options)
        assert refused.code == 1
        assert f"nothing tells who of domain '{DOMAIN}' was erased since the backup" in refused.err
        assert "--erasures FILE, or say --nobody-erased" in refused.err
    done = data_dir.restore(file, "--replace", "--erasures", erasures)
    assert done.code == 0, done.err
    assert done.json()["replayed"] == {"erased": 1, "marks": 1}
    async with features_on(data_dir) as features:
        await nothing_of(features, data_dir, "u0")
    # It knows now what the list knew: it may tell of the same backup by itself.
    again = data_dir.restore(file, "--replace")
    assert again.code == 0, again.err
    assert again.json()["replayed"] == {"erased": 1, "marks": 1}


@pytest.mark.slow
async def test_a_store_that_does_not_say_when_it_began_may_have_been_emptied(
    data_dir: DataDir, tmp_path: Path
) -> None:
    """As one of a version before; from the next start on it says so, and its later backups are as any."""
    async with features_on(data_dir) as features:
        await stocked(features)
    with data_dir.store.client() as client:
        assert client.hdel(f"{{{DOMAIN}:meta}}:schema", "began_ms") == 1
    assert data_dir.backup(tmp_path / "old.tar").code == 0
    async with features_on(data_dir):
        pass
    assert data_dir.backup(tmp_path / "new.tar").code == 0
    refused = data_dir.restore(tmp_path / "old.tar", "--replace")
    assert refused.code == 1
    assert "nothing tells who" in refused.err
    done = data_dir.restore(tmp_path / "new.tar", "--replace")
    assert done.code == 0, done.err
    said = data_dir.restore(tmp_path / "old.tar", "--replace", "--nobody-erased")
    assert said.code == 0, said.err


async def test_a_restore_that_was_killed_between_two_stores_is_undone_by_the_next_one(
    data_dir: DataDir, tmp_path: Path
) -> None:
    await erased_since(data_dir, tmp_path / "b.tar")
    data_dir.store.stop()
    (data_dir.root / "valkey").rename(data_dir.root / "valkey.replaced")
    (data_dir.root / "valkey.restoring").mkdir()
    refused = data_dir.run("restore", tmp_path / "b.tar", "--data-dir", data_dir.root)
    assert refused.code == 1
    assert "holds data: say --replace" in refused.err
    assert [path.name for path in data_dir.root.iterdir()] == ["valkey"]
    done = data_dir.run("restore", tmp_path / "b.tar", "--data-dir", data_dir.root, "--replace")
    assert done.code == 0, done.err
    assert done.json()["replayed"] == {"erased": 1, "marks": 1}  # by the store that was put back


async def test_who_came_back_after_an_erasure_before_the_backup_is_kept(
    data_dir: DataDir, tmp_path: Path
) -> None:
    async with features_on(data_dir) as features:
        await stocked(features)
        await features.ask("DeleteUser", user_id="u0")
        later = int(time.time() * 1000) + 1000
        assert await features.record(event("u0", "i1", event_id="again", time_ms=later)) == [1]
        assert data_dir.backup(tmp_path / "b.tar").code == 0
    assert data_dir.restore(tmp_path / "b.tar", "--replace").json()["replayed"] == {"erased": 0, "marks": 0}
    async with features_on(data_dir) as features:
        assert await features.history("u0") == ["i1"]


async def test_followers_begin_anew_also_where_the_restored_store_has_caught_up_with_them(
    data_dir: DataDir, tmp_path: Path
) -> None:
    """A feature server that runs on through a restore, and what model servers and gateways follow it by. They
    are at revision 12 of a store that is set back to 10; two other changes later, 12 means something else."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    names = {"store_url": data_dir.store.url, "domains": DOMAIN, "shards": 8, "port": port}
    async with started(tmp_path, "features", **names), Features.connected(address, DOMAIN) as features:
        await wait_until_serving(address, 60)
        await features.put(*(item(f"i{n}", f"Title {n}") for n in range(10)))
        follower = ItemFollower(FeatureItemFeed(address), DOMAIN)
        following = asyncio.create_task(follower.run())
        clients = Clients.connect(GatewaySettings(features_target=address))
        catalogue = Catalogue(clients.features, [DOMAIN])
        catalogue.start()

        def mirrored() -> set[str]:
            mirror = catalogue.of(DOMAIN)
            return {i for i in ALL if mirror.get(i) is not None}

        async def both_hold(wanted: set[str]) -> None:
            async def so() -> bool:
                return set(follower._content) == wanted == mirrored()

            await until(so, within_s=30, says=f"{sorted(wanted)} are held")

        ten = {f"i{n}" for n in range(10)}
        try:
            await both_hold(ten)
            assert data_dir.backup(tmp_path / "b.tar").code == 0
            await features.put(item("lost-1", "Lost"), item("lost-2", "Lost"))
            await both_hold(ten | {"lost-1", "lost-2"})
            data_dir.store.stop()
            restored = data_dir.run("restore", tmp_path / "b.tar", "--data-dir", data_dir.root, "--replace")
            assert restored.code == 0, restored.err
            data_dir.store.start()

            async def stored() -> bool:
                try:
                    return await features.put(item("new-1", "New"), item("new-2", "New")) != []
                except WarmstartError:
                    return False

            await until(stored, within_s=30, says="it stores again")
            await both_hold(ten | {"new-1", "new-2"})
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await catalogue.stop()
            await clients.close()


ALL = {*(f"i{n}" for n in range(10)), "lost-1", "lost-2", "new-1", "new-2"}


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_at_its_start(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:700])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    at = content.index(b"VALKEY" if b"VALKEY080" in content else b"REDIS") + 40
    content[at] ^= 1
    file.write_bytes(content)


def of_a_later_format(file: Path) -> None:
    rewrite(file, lambda about: about.update(format=2, layout="of later"))


def with_other_counts(file: Path) -> None:
    rewrite(file, lambda about: about["domains"][0].update(events=7))


def no_backup(file: Path) -> None:
    file.write_text("a shopping list")


def rewrite(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with tarfile.open(file) as tar:
        about = json.load(tar.extractfile("backup.json"))  # type: ignore[arg-type]
        snapshot = tar.extractfile("store.rdb").read()  # type: ignore[union-attr]
    change(about)
    parts = {"backup.json": json.dumps(about).encode(), "store.rdb": snapshot}
    with tarfile.open(file, "w") as tar:
        for name, content in parts.items():
            part = file.with_name(name)
            part.write_bytes(content)
            tar.add(part, name)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_short, "damaged"),
        (cut_at_its_start, "cut short"),
        (flip_a_bit, "sha256 of store.rdb must be"),
        (of_a_later_format, "format must be 1, got 2: use the version that wrote it"),
        (with_other_counts, "the backup must hold"),
        (no_backup, "must be a backup of `warmstart store backup`"),
    ],
)
async def test_a_damaged_file_is_refused_and_the_store_stays(
    saved: tuple[DataDir, Path], damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    data, good = saved
    file = tmp_path / "bad.tar"
    file.write_bytes(good.read_bytes())
    damage(file)
    done = data.run("restore", file, "--data-dir", data.root, "--replace", "--nobody-erased")
    assert done.code == 1
    assert words in done.err
    assert sorted(path.name for path in data.root.iterdir()) == ["valkey"]
    shown = data.run("show", file)
    if damage is with_other_counts:  # nobody counts what is only looked at
        assert shown.code == 0
    else:
        assert (shown.code, words in shown.err) == (1, True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A stopped store with a backup of it."""
    root = tmp_path_factory.mktemp("saved")
    data = DataDir(root / "var")
    try:
        asyncio.run(_stock(data))
        assert data.backup(root / "b.tar").code == 0
        data.store.stop()
        yield data, root / "b.tar"
    finally:
        data.store.kill()


async def _stock(data: DataDir) -> None:
    async with features_on(data) as features:
        await stocked(features)


async def test_a_store_of_a_newer_schema_is_refused_with_what_it_needs(
    data_dir: DataDir, tmp_path: Path
) -> None:
    async with features_on(data_dir) as features:
        await stocked(features)
    with data_dir.store.client() as client:
        client.hset(f"{{{DOMAIN}:meta}}:schema", mapping={"version": 9, "oldest": 5})
    assert data_dir.backup(tmp_path / "b.tar").code == 0
    fresh = DataDir(tmp_path / "elsewhere")
    try:
        done = fresh.restore(tmp_path / "b.tar", "--nobody-erased")
        assert done.code == 1
        assert "got version 9, usable from 5 on: start a newer server" in done.err
    finally:
        fresh.store.kill()


def kill_in_its_midst(command: list[str], file: Path) -> None:
    with subprocess.Popen(command, env=clean_environment()) as process:
        deadline = time.monotonic() + 60
        while not list(file.parent.glob(f".{file.name}.partial-*")) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)


async def test_a_killed_backup_leaves_no_file_and_the_next_one_tidies_up(
    data_dir: DataDir, tmp_path: Path
) -> None:
    async with features_on(data_dir) as features:
        await stocked(features)
    with data_dir.store.client() as client:
        client.set("weight", os.urandom(30_000_000))  # it takes a moment
    where = tmp_path / "backups"
    file = where / "b.tar"
    kill_in_its_midst(data_dir.command("save", file, "--store-url", data_dir.store.url), file)
    assert [path.name.startswith(".b.tar.partial-") for path in where.iterdir()] == [True]
    assert data_dir.backup(file).code == 0
    assert [path.name for path in where.iterdir()] == ["b.tar"]
    again = data_dir.backup(file)
    assert again.code == 1
    assert "is there already" in again.err
    refused = data_dir.run("save", tmp_path / "other.tar", "--store-url", "valkey://127.0.0.1:1/0")
    assert refused.code == 1
    assert not (tmp_path / "other.tar").exists()


def test_the_command_line_backs_up_and_restores_a_cluster_that_is_down(
    saved: tuple[DataDir, Path], tmp_path: Path
) -> None:
    data, _ = saved
    where = ["--data-dir", str(data.root)]
    done = warmstart("store", "backup", "cold.tar", *where, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json()["domains"][0]["events"] == 20
    shown = warmstart("store", "show", "cold.tar", cwd=tmp_path)
    assert shown.code == 0
    assert all(word in shown.out for word in ("last event", DOMAIN))
    assert re.search(r"\be1[5-9]\b", shown.out)  # of five people, whose events arrive side by side
    restored = warmstart("store", "restore", "cold.tar", "--data-dir", "new", "--nobody-erased", cwd=tmp_path)
    assert restored.code == 0, restored.err
    assert "erased again: 0 people" in restored.out
    missing = warmstart("store", "restore", "nowhere.tar", cwd=tmp_path)
    assert missing.code == 1
    assert "nowhere.tar must be a file of `warmstart store backup`, got none" in missing.err
