"""TLS between real servers and callers: who gets in, and certificates that change while they serve."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1 import feature_service_pb2_grpc as rpc

from shared.errors import PermissionDenied, SettingsError, Unavailable, WarmstartError
from shared.rpc import connections
from shared.rpc.channels import call, connect, stream
from shared.rpc.health import check
from shared.rpc.server import running
from shared.tls import TlsSource
from tests.certificates import Pki
from tests.ports import free_port
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, settings, stub

REQUEST = pb.GetUserContextRequest(user_id="ada")


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki(tmp_path / "pki")
    pki.issue("features", "127.0.0.1", "localhost")
    pki.issue("gateway")
    return pki


async def ask(target: str, tls: TlsSource | None, timeout_s: float = 10.0) -> list[str]:
    """One call of a caller of its own: connections of others are not shared."""
    async with connect(target, tls=tls) as channel:
        answer = await call(stub(channel).GetUserContext, REQUEST, timeout_s=timeout_s)
    return list(answer.seen_item_ids)


async def test_a_caller_whom_the_servers_authority_signed_is_answered(pki: Pki) -> None:
    async with running(TestedComponent(), settings(**pki.server("features"))) as address:
        assert await ask(address, pki.client("gateway")) == ["ada"]
        assert await ask(f"features@{address}", pki.client("gateway")) == ["ada"]
        assert await check(address, pem=pki.client("gateway").pem) == "SERVING"
        async with connect(address, tls=pki.client("gateway")) as channel:
            seen = [r.cursor async for r in stream(stub(channel).WatchItems, pb.WatchItemsRequest())]
    assert seen == ["1", "2", "3"]


async def test_callers_without_the_right_certificate_are_not_answered(pki: Pki, tmp_path: Path) -> None:
    others = Pki(tmp_path / "others")
    others.issue("gateway")
    # Believes our servers, and shows a certificate of its own authority.
    shutil.copy(pki.ca_file, others.ca_file)
    component = TestedComponent()
    async with running(component, settings(**pki.server("features"))) as address:
        for caller in (None, pki.client(), others.client("gateway")):
            with pytest.raises(Unavailable):
                await ask(address, caller, timeout_s=2.0)
        assert await check(address, timeout_s=2.0) == "UNAVAILABLE"
        assert await ask(address, pki.client("gateway")) == ["ada"]


async def test_a_server_of_another_authority_or_name_gets_no_call(pki: Pki, tmp_path: Path) -> None:
    others = Pki(tmp_path / "others")
    others.issue("features", "127.0.0.1")
    pki.issue("scoring")
    seen: list[str] = []

    async def note(request: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        seen.append(request.user_id)
        return pb.GetUserContextResponse()

    serving = others.server("features") | {"tls_client_ca": str(pki.ca_file)}
    async with running(TestedComponent(note), settings(**serving)) as address:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(address, pki.client("gateway"), timeout_s=2.0)
    async with running(TestedComponent(note), settings(**pki.server("features"))) as address:
        with pytest.raises(Unavailable, match="Hostname Verification Check failed"):
            await ask(f"scoring@{address}", pki.client("gateway"), timeout_s=2.0)
    async with running(TestedComponent(note), settings(**pki.server("scoring"))) as address:  # no 127.0.0.1
        with pytest.raises(Unavailable, match="Hostname Verification Check failed"):
            await ask(address, pki.client("gateway"), timeout_s=2.0)
        assert seen == []
        await ask(f"scoring@{address}", pki.client("gateway"))
    assert seen == ["ada"]


async def test_tls_without_client_certificates_serves_whoever_believes_the_server(pki: Pki) -> None:
    serving = pki.server("features") | {"tls_client_ca": ""}
    async with running(TestedComponent(), settings(**serving)) as address:
        assert await ask(address, pki.client()) == ["ada"]


async def test_only_callers_that_are_listed_may_call_and_all_may_ask_for_health(pki: Pki) -> None:
    pki.issue("scoring")
    serving = pki.server("features", tls_client_names="gateway,spiffe://shop/training")
    async with running(TestedComponent(), settings(**serving)) as address:
        assert await ask(address, pki.client("gateway")) == ["ada"]
        with pytest.raises(
            PermissionDenied, match="must hold a name that server takes calls from, got scoring"
        ):
            await ask(address, pki.client("scoring"))
        async with connect(address, tls=pki.client("scoring")) as channel:
            with pytest.raises(PermissionDenied, match="got scoring"):
                [r async for r in stream(stub(channel).WatchItems, pb.WatchItemsRequest())]
        assert await check(address, pem=pki.client("scoring").pem) == "SERVING"


async def test_several_addresses_are_called_under_one_name(pki: Pki) -> None:
    async with running(TestedComponent(), settings(**pki.server("features"))) as one:
        async with running(TestedComponent(), settings(**pki.server("features"))) as two:
            assert await ask(f"features@{one},{two}", pki.client("gateway")) == ["ada"]
            with pytest.raises(Unavailable, match="Hostname Verification Check failed"):
                await ask(f"scoring@{one},{two}", pki.client("gateway"), timeout_s=2.0)


@pytest.mark.parametrize(
    ("target", "secure", "message"),
    [
        ("127.0.0.1:1,127.0.0.1:2", True, "with TLS must be name@ip:port,ip:port"),
        ("@127.0.0.1:1", True, "must be name@host:port, got '@127.0.0.1:1'"),
        ("features@", True, "must be name@host:port, got 'features@'"),
        ("features@127.0.0.1:1", False, "only with TLS, got 'features@127.0.0.1:1'"),
    ],
)
async def test_a_target_that_does_not_fit_is_refused(
    pki: Pki, target: str, secure: bool, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        connect(target, tls=pki.client("gateway") if secure else None)


@dataclass
class Load:
    """Calls without a pause until the block ends; counts answers, keeps every failure."""

    answered: int = 0
    failures: list[WarmstartError] = field(default_factory=list)
    stopped: bool = False

    async def run(self, channel: grpc.aio.Channel) -> None:
        ask_for = stub(channel).GetUserContext
        while not self.stopped:
            try:
                await call(ask_for, REQUEST, timeout_s=10.0)
                self.answered += 1
            except WarmstartError as error:
                self.failures.append(error)

    async def go_on(self, more: int = 20) -> None:
        goal = self.answered + more
        async with asyncio.timeout(20):
            while self.answered < goal:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def under_load(channel: grpc.aio.Channel) -> AsyncIterator[Load]:
    load = Load()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(load.run(channel))
        try:
            yield load
        finally:
            load.stopped = True


class Telling(TestedComponent):
    """Answers with the certificate that its caller showed, in PEM; a call of "slow" waits for `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.release = asyncio.Event(), asyncio.Event()

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        component = self

        class Servicer(rpc.FeatureServiceServicer):
            async def GetUserContext(self, request: Any, context: Any) -> Any:
                if request.user_id == "slow":
                    component.waiting.set()
                    await component.release.wait()
                (shown,) = context.auth_context()["x509_pem_cert"]
                return pb.GetUserContextResponse(seen_item_ids=[shown.decode()])

        rpc.add_FeatureServiceServicer_to_server(Servicer(), server)
        return [SERVICE]


def shown(address: str, pki: Pki) -> str:
    """The certificate that a server shows to a new connection, in PEM."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(pki.ca_file))
    context.load_cert_chain(pki.cert("gateway"), pki.key("gateway"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        with context.wrap_socket(raw, server_hostname=host) as secure:
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")


def first(path: Path) -> str:
    """The certificate of a file that is its owner's."""
    return path.read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers look at their files twenty times a second."""
    monkeypatch.setattr(connections, "LOOK_EVERY_S", 0.05)


async def test_a_server_shows_a_renewed_certificate_to_new_callers_and_fails_no_call(pki: Pki) -> None:
    """Ten renewals under load; each time new callers come in too."""
    async with running(Telling(), settings(**pki.server("features"))) as address:
        async with connect(address, tls=pki.client("gateway")) as channel:
            async with under_load(channel) as load:
                for _ in range(10):
                    pki.issue("features", "127.0.0.1", "localhost")
                    assert await asyncio.to_thread(shown, address, pki) == first(pki.cert("features"))
                    await ask(address, pki.client("gateway"))
                    await load.go_on()
    assert load.failures == []


async def test_a_server_takes_up_files_that_kubernetes_swaps_by_a_symlink(pki: Pki, tmp_path: Path) -> None:
    mounted = Pki(tmp_path / "mounted", pki.ca)
    mounted.issue("features", "127.0.0.1")
    names = ("ca.pem", "features.pem", "features-key.pem")

    def swap(version: str) -> None:
        fresh = mounted.directory / version
        fresh.mkdir()
        for name in names:
            shutil.copy(tmp_path / "next" / name, fresh / name)
        draft = mounted.directory / "..draft"
        draft.symlink_to(version)
        draft.replace(mounted.directory / "..data")

    renewed = Pki(tmp_path / "next", pki.ca)
    renewed.issue("features", "127.0.0.1")
    swap("..one")
    for name in names:
        (mounted.directory / name).unlink()
        (mounted.directory / name).symlink_to(f"..data/{name}")
    async with running(Telling(), settings(**mounted.server("features"))) as address:
        assert await asyncio.to_thread(shown, address, pki) == first(renewed.cert("features"))
        renewed.issue("features", "127.0.0.1")
        swap("..two")
        assert await asyncio.to_thread(shown, address, pki) == first(renewed.cert("features"))


async def test_a_broken_renewal_of_a_server_is_refused_and_the_old_pair_stays(
    pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a renewal (a certificate without its key yet), rubbish, and one that has expired."""
    old, key = first(pki.cert("features")), pki.key("features").read_bytes()
    async with running(Telling(), settings(**pki.server("features"))) as address:
        pki.issue("features", "127.0.0.1", "localhost")
        good = pki.cert("features").read_bytes(), pki.key("features").read_bytes()
        pki.key("features").write_bytes(key)
        assert await asyncio.to_thread(shown, address, pki) == old
        pki.cert("features").write_text("rubbish")
        assert await asyncio.to_thread(shown, address, pki) == old
        pki.issue("features", "127.0.0.1", days=-1)
        for _ in range(3):
            assert await asyncio.to_thread(shown, address, pki) == old
        assert await ask(address, pki.client("gateway"))
        pki.cert("features").write_bytes(good[0])
        pki.key("features").write_bytes(good[1])
        assert await asyncio.to_thread(shown, address, pki) == first(pki.cert("features"))
    said = [line for line in capsys.readouterr().out.splitlines() if "refused" in line]
    assert len(said) == 3  # each once, however many callers came
    assert "must hold the key of the certificate" in said[0]
    assert "must hold certificates in PEM" in said[1]
    assert "must hold a certificate that is valid now" in said[2]


@pytest.mark.usefixtures("often")
async def test_a_caller_shows_its_renewed_certificate_and_fails_no_call(pki: Pki) -> None:
    """Three renewals under load; a call that was in work all the time is answered on its old connection."""
    component = Telling()
    async with running(component, settings(**pki.server("features"))) as address:
        async with connect(address, tls=pki.client("gateway")) as channel:
            ask_for = stub(channel).GetUserContext
            slow = asyncio.create_task(
                call(ask_for, pb.GetUserContextRequest(user_id="slow"), timeout_s=60.0)
            )
            await asyncio.wait_for(component.waiting.wait(), 10)
            oldest = first(pki.cert("gateway"))
            async with under_load(channel) as load:
                for _ in range(3):
                    pki.issue("gateway")
                    async with asyncio.timeout(20):
                        while (await call(ask_for, REQUEST, timeout_s=10.0)).seen_item_ids != [
                            first(pki.cert("gateway"))
                        ]:
                            await load.go_on(5)
                component.release.set()
                assert (await slow).seen_item_ids == [oldest]
    assert load.failures == []


@pytest.mark.usefixtures("often")
async def test_a_caller_whose_renewal_is_broken_or_not_believed_goes_on_as_before(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connections, "_READY_WITHIN_S", 0.5)
    strangers = Pki(tmp_path / "strangers")
    strangers.issue("gateway")
    said = ""
    async with running(Telling(), settings(**pki.server("features"))) as address:
        async with connect(address, tls=pki.client("gateway")) as channel, under_load(channel) as load:
            pki.key("gateway").write_text("rubbish")
            await load.go_on()
            # The server does not believe this one yet.
            for file in (pki.cert("gateway"), pki.key("gateway")):
                shutil.copy(strangers.directory / file.name, file)
            async with asyncio.timeout(20):
                while "no server can be reached with the new certificates yet" not in said:
                    said += capsys.readouterr().out
                    await load.go_on(5)
            bundle = pki.ca_file.read_bytes() + strangers.ca_file.read_bytes()
            pki.ca_file.write_bytes(bundle)
            ask_for = stub(channel).GetUserContext
            async with asyncio.timeout(20):
                while (await call(ask_for, REQUEST, timeout_s=10.0)).seen_item_ids != [
                    first(strangers.cert("gateway"))
                ]:
                    await load.go_on(5)
    assert load.failures == []


@pytest.mark.usefixtures("often")
async def test_one_authority_takes_over_from_another_without_a_failed_call(pki: Pki, tmp_path: Path) -> None:
    """Both are believed, then both ends are signed by the new one, then the old one is forgotten."""
    old = pki.ca_file.read_bytes()
    port = free_port()
    new = Pki(tmp_path / "new")
    new.issue("features", "127.0.0.1", "localhost")
    new.issue("gateway")
    async with AsyncExitStack() as around:
        server = await around.enter_async_context(AsyncExitStack())
        serving = settings(port=port, **pki.server("features"))
        address = await server.enter_async_context(running(Telling(), serving))
        caller = pki.client("gateway")
        channel = await around.enter_async_context(connect(address, tls=caller))
        ask_for = stub(channel).GetUserContext
        async with under_load(channel) as load:
            await load.go_on()
            both = old + new.ca_file.read_bytes()
            pki.ca_file.write_bytes(both)
            async with asyncio.timeout(20):
                while caller.pem.ca != both:
                    await load.go_on(5)
            for name in ("features", "gateway"):
                for file in (pki.cert(name), pki.key(name)):
                    shutil.copy(new.directory / file.name, file)
            async with asyncio.timeout(20):
                while (await call(ask_for, REQUEST, timeout_s=10.0)).seen_item_ids != [
                    first(new.cert("gateway"))
                ]:
                    await load.go_on(5)
            shutil.copy(new.ca_file, pki.ca_file)
            await ask(address, pki.client("gateway"))
            await load.go_on()
        assert load.failures == []
        await server.aclose()  # and so its connections: nothing of the old authority helps any more
        async with running(Telling(), serving):
            async with asyncio.timeout(20):
                while True:
                    try:
                        await call(ask_for, REQUEST, timeout_s=10.0)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.05)


def scrape(port: int, *, tls: ssl.SSLContext | None) -> str:
    scheme = "https" if tls else "http"
    url = f"{scheme}://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=5, context=tls) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())


async def test_metrics_are_met_with_the_same_certificates(pki: Pki) -> None:
    port = free_port()
    believing = ssl.create_default_context(cafile=str(pki.ca_file))
    with_certificate = ssl.create_default_context(cafile=str(pki.ca_file))
    with_certificate.load_cert_chain(pki.cert("gateway"), pki.key("gateway"))
    async with running(TestedComponent(), settings(metrics_port=port, **pki.server("features"))):
        for context in (None, believing):
            with pytest.raises(OSError):  # noqa: PT011 - however Python says that it was not let in
                await asyncio.to_thread(scrape, port, tls=context)
        silent = socket.create_connection(("127.0.0.1", port))  # keeps nobody else waiting
        text = await asyncio.to_thread(scrape, port, tls=with_certificate)
        (expires,) = [line for line in text.splitlines() if line.startswith("warmstart_tls_certificate_exp")]
        assert 29 * 86400 < float(expires.split()[1]) - time.time() < 31 * 86400
        pki.issue("features", "127.0.0.1", days=10)
        text = await asyncio.to_thread(scrape, port, tls=with_certificate)
        (expires,) = [line for line in text.splitlines() if line.startswith("warmstart_tls_certificate_exp")]
        assert 9 * 86400 < float(expires.split()[1]) - time.time() < 11 * 86400
        silent.close()
