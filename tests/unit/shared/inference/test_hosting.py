"""The models of one server: when it is started, when it is ready, and what a stop does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.artifacts import Artifact, Registry, Signer
from shared.errors import ModelNotHeld, NoModel, SettingsError, Unavailable
from shared.inference.hosting import ModelHost
from shared.inference.settings import ModelServerSettings
from tests.artifacts import publish_plain
from tests.model_servers import until
from tests.unit.shared.inference.test_holder import Loader, PlainVersion
from tests.unit.shared.test_signatures import write_keys


def double(jobs: Sequence[int]) -> Sequence[int | Exception]:
    return [2 * job for job in jobs]


def settings(root: Path, **changes: object) -> ModelServerSettings:
    return ModelServerSettings(registry=str(root), features_target="", registry_interval_s=0.01, **changes)


async def test_a_domain_that_waits_for_its_first_model_keeps_no_other_waiting(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    shop = publish_plain(registry, "shop")
    registry.promote("shop", shop.version)
    host = ModelHost(settings(tmp_path, domains=("shop", "news")), Loader(), double, max_batch=4)
    await host.start()
    try:
        await asyncio.wait_for(host.ready(), 60)
        assert host.get("shop").ref == shop
        with pytest.raises(NoModel, match="'news'"):
            host.get("news")
        with pytest.raises(ModelNotHeld, match="version 'v0' of domain 'shop' is not held here"):
            host.get("shop", "v0")
        assert [held.ref for held in host.describe("shop")] == [shop]
        assert host.describe("news") == ()
        news = publish_plain(registry, "news")
        registry.promote("news", news.version)

        async def held() -> bool:
            return [one.ref for one in host.describe("news")] == [news]

        await until(held)
        assert await host.submit(21) == 42
    finally:
        await host.stop()
    with pytest.raises(Unavailable):
        await host.submit(1)


async def test_a_server_that_is_told_public_keys_loads_what_they_signed_alone(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    anybody, loader = Registry(tmp_path / "registry"), Loader()
    anybody.promote("default", publish_plain(anybody).version)
    told = settings(anybody.root, registry_public_keys=str(public))
    host = ModelHost(told, loader, double, max_batch=4)
    await host.start()
    try:
        assert host.describe("default") == ()
        signed = publish_plain(Registry(anybody.root, signer=Signer.of_file("KEY", str(private))))
        anybody.promote("default", signed.version)
        await asyncio.wait_for(host.ready(), 60)
        assert loader.loaded == [signed.version]
    finally:
        await host.stop()
    bad = settings(anybody.root, registry_public_keys=str(private))
    with pytest.raises(SettingsError, match="REGISTRY_PUBLIC_KEYS must hold Ed25519 public keys in PEM"):
        ModelHost(bad, loader, double, max_batch=4)


async def test_it_is_ready_with_the_first_model_of_any_domain(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    host = ModelHost(settings(tmp_path, domains=("shop", "news")), Loader(), double, max_batch=4)
    await host.start()
    try:
        ready = asyncio.ensure_future(host.ready())
        done, _ = await asyncio.wait([ready], timeout=0.2)
        assert not done
        registry.promote("news", publish_plain(registry, "news").version)
        await asyncio.wait_for(ready, 60)
        assert host.describe("shop") == ()
    finally:
        await host.stop()


async def test_a_start_does_not_wait_for_ever_for_a_model_that_loads_slowly(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.promote("default", publish_plain(registry).version)
    loader, gate = Loader(), threading.Event()

    def slowly(artifact: Artifact) -> PlainVersion:
        assert gate.wait(60)
        return loader(artifact)

    host = ModelHost(settings(tmp_path, start_timeout_s=0.05), slowly, double, max_batch=4)
    try:
        await host.start()
        assert host.describe("default") == ()
        gate.set()
        await asyncio.wait_for(host.ready(), 60)
    finally:
        gate.set()
        await host.stop()
