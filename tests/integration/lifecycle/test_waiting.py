"""A server whose dependency is away says for what it waits, with where that is and which setting says so; it
gives up in time, ends at once when told to, and serves once the dependency is there. Real processes."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.processes.lock import FileLock
from shared.rpc.health import wait_until_serving
from tests.integration.lifecycle.process import started
from tests.ports import free_port
from tests.valkey import running_valkey

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True)
class Case:
    """A server and what it cannot start without. setting: of the dependency's address; at: that address."""

    service: str
    dependency: str
    setting: str
    at: str
    more: Mapping[str, object]


def store_case(directory: Path) -> Case:
    at = f"valkey://127.0.0.1:{free_port()}"
    return Case("features", "the store", "STORE_URL", at, {"store_url": f"{at}/0"})


def features_case(directory: Path) -> Case:
    at = f"127.0.0.1:{free_port()}"
    return Case("gateway", "features", "FEATURES_TARGET", at, {"features_target": at})


def runs_case(directory: Path) -> Case:
    runs = directory / "runs"
    runs.mkdir()
    return Case(
        "training",
        "the directory of the runs",
        "RUNS",
        str(runs),
        {"runs": runs, "registry": directory / "registry"},
    )


CASES = [store_case, features_case, runs_case]


async def held(case: Case, stack: AsyncExitStack) -> None:
    """The training server's dependency is away while another one holds it."""
    if case.service == "training":
        lock = FileLock(Path(case.at) / ".service.lock")
        assert lock.take() == ""
        stack.callback(lock.let_go)


@pytest.mark.parametrize("make", CASES)
async def test_it_says_at_once_what_it_waits_for_and_gives_up_in_time(make, tmp_path: Path) -> None:
    case = make(tmp_path)
    async with AsyncExitStack() as stack:
        await held(case, stack)
        server = await stack.enter_async_context(
            started(tmp_path, case.service, port=free_port(), start_timeout_s=2, **case.more)
        )
        line = await server.says("waiting_for_dependency")
        for word in (case.dependency, case.at, f"WARMSTART_{case.service.upper()}_{case.setting}"):
            assert word in line
        assert await server.ends(within_s=30) == 1
        last = next(line for line in reversed(server.said.splitlines()) if "error" in line)
        for word in (case.at, f"WARMSTART_{case.service.upper()}_{case.setting}"):
            assert word in last
        # At a bounded rhythm: once in these two seconds.
        assert server.said.count("waiting_for_dependency") == 1


@pytest.mark.parametrize("make", CASES)
async def test_sigterm_ends_it_at_once_while_it_waits(make, tmp_path: Path) -> None:
    case = make(tmp_path)
    async with AsyncExitStack() as stack:
        await held(case, stack)
        server = await stack.enter_async_context(
            started(tmp_path, case.service, port=free_port(), start_timeout_s=120, **case.more)
        )
        await server.says("waiting_for_dependency")
        assert await server.ended_by(signal.SIGTERM, within_s=10) == 0


async def test_each_serves_once_what_it_waits_for_is_there(tmp_path: Path) -> None:
    """From the last to the first: the gateway waits for features, features for the store."""
    ports = {name: free_port() for name in ("gateway", "features")}
    with running_valkey() as store:
        store.kill()
        async with (
            started(
                tmp_path, "gateway", port=ports["gateway"], features_target=f"127.0.0.1:{ports['features']}"
            ) as gateway,
            started(tmp_path, "features", port=ports["features"], store_url=store.url) as features,
        ):
            await gateway.says("waiting_for_dependency")
            await features.says("waiting_for_dependency")
            store.start()
            for name in ("features", "gateway"):
                await wait_until_serving(f"127.0.0.1:{ports[name]}", 60)
            assert "dependency_found" in await features.says("dependency_found")
            await gateway.says("dependency_found")
            # Without them lists come by lower rungs: it starts, and says so.
            for name in ("adaptation", "scoring"):
                (line,) = [one for one in await gateway.lines("starting_without") if name in one]
                assert f"WARMSTART_GATEWAY_{name.upper()}_TARGET" in line


@pytest.mark.parametrize("service", ["adaptation", "scoring"])
async def test_a_model_server_is_alive_without_model_and_features_and_says_what_is_missing(
    service: str, tmp_path: Path
) -> None:
    port, away = free_port(), f"127.0.0.1:{free_port()}"
    registry = tmp_path / "registry"
    async with started(tmp_path, service, port=port, registry=registry, features_target=away) as server:
        line = await server.says("waiting_for_dependency")
        for word in ("a first model", str(registry), f"WARMSTART_{service.upper()}_REGISTRY"):
            assert word in line
        assert away in await server.says("item_stream_away")
        await wait_until_serving(f"127.0.0.1:{port}", 60)
        assert await server.ended_by(signal.SIGTERM, within_s=30) == 0
