"""A real Valkey a session, a real feature server a test, a domain of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any, Protocol

import pytest

from services.features.app import build
from services.features.settings import FeatureSettings
from shared.content import TextEncoder
from shared.rpc.server import running
from tests.integration.features.client import Features
from tests.valkey import RunningValkey, running_valkey

_numbers = itertools.count(1)


@cache
def shared_encoder() -> TextEncoder:
    """Loaded once for all servers of the tests."""
    return TextEncoder()


class Serve(Protocol):
    """Starts a feature server; keyword arguments are settings."""

    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[Features]: ...


@pytest.fixture(scope="session")
def session_valkey() -> Iterator[RunningValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def cluster_valkey() -> Iterator[RunningValkey]:
    with running_valkey(cluster=True) as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[RunningValkey]:
    """One that a test may kill."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def domain() -> str:
    """A domain that no other test uses."""
    return f"test{next(_numbers)}"


@asynccontextmanager
async def serving(valkey: RunningValkey, domain: str, **settings: Any) -> AsyncIterator[Features]:
    """A feature server on `valkey`, and a client of it."""
    values = {"port": 0, "store_url": valkey.url, "domains": domain, "grace_s": 0.1, "shards": 8}
    loaded = FeatureSettings(**{**values, **settings})
    component = build(loaded, encoder=shared_encoder())
    async with (
        running(component, loaded, name="features") as address,
        Features.connected(address, domain) as client,
    ):
        yield client


@pytest.fixture
def serve(session_valkey: RunningValkey, domain: str) -> Serve:
    def start(**settings: Any) -> AbstractAsyncContextManager[Features]:
        return serving(session_valkey, domain, **settings)

    return start


@pytest.fixture
async def features(serve: Serve) -> AsyncIterator[Features]:
    async with serve() as client:
        yield client
