"""A store that is reached through TLS only: here a TLS front before Valkey, whose wheel is built without."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from services.features.app import build
from services.features.settings import FeatureSettings
from shared.errors import SettingsError, Unavailable
from shared.rpc.server import running
from shared.settings import load
from tests.certificates import Pki
from tests.integration.features.client import RECORDED, Features, event
from tests.valkey import RunningValkey


@asynccontextmanager
async def tls_front(port: int, pki: Pki, *, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Passes on to 127.0.0.1:port what comes from callers whose certificate the authority signed."""
    pki.issue("store", host)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca_file))
    context.load_cert_chain(pki.cert("store"), pki.key("store"))
    context.verify_mode = ssl.CERT_REQUIRED

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await source.read(1 << 16):
                to.write(data)
                await to.drain()
        to.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner), copy(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"valkeys://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


def settings(url: str, **changes: Any) -> FeatureSettings:
    quick = {"start_timeout_s": 1.0, "drain_s": 0.0, "grace_s": 1.0}
    return load(FeatureSettings, store_url=url, port=0, domains=("over-tls",), **(quick | changes))


async def test_a_store_is_reached_over_mutual_tls(session_valkey: RunningValkey, tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.issue("features")
    told = {"store_ca": pki.ca_file, "store_cert": pki.cert("features"), "store_key": pki.key("features")}
    files = {name: str(path) for name, path in told.items()}
    async with tls_front(session_valkey.port, pki) as url:
        told = settings(url, start_timeout_s=60.0, **files)
        async with running(build(told), told) as address:
            async with Features.connected(address, "over-tls") as features:
                assert await features.record(event("ann", "shoe")) == [RECORDED]
                assert await features.history("ann") == ["shoe"]
        for fewer in ({}, {"store_ca": files["store_ca"]}):
            with pytest.raises(Unavailable, match="store at valkeys://"):
                async with running(build(settings(url, **fewer)), settings(url)):
                    pass
    async with tls_front(session_valkey.port, pki, host="10.0.0.1") as elsewhere:
        with pytest.raises(Unavailable, match="IP address mismatch"):
            async with running(build(settings(elsewhere, **files)), settings(elsewhere)):
                pass


def test_files_without_a_store_with_tls_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings("valkey://127.0.0.1:1/0", store_ca="ca.pem", store_cert="a.pem")
    said = str(caught.value)
    assert "STORE_CA: must be empty where store_url does not start with valkeys://" in said
    with pytest.raises(SettingsError, match="STORE_KEY: must be set where store_cert is"):
        settings("valkeys://127.0.0.1:1/0", store_cert="a.pem")


async def test_a_bad_file_for_the_store_is_named_at_the_start(tmp_path: Path) -> None:
    told = settings("valkeys://127.0.0.1:1/0", store_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(SettingsError, match="WARMSTART_FEATURES_STORE_CA must be a file that can be read"):
        async with running(build(told), told):
            pass
