"""One pair of doors for the tests of this folder that leave them as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.integration.auth.doors import Doors, doors
from tests.valkey import RunningValkey, running_valkey


@pytest.fixture(scope="package")
def store() -> Iterator[RunningValkey]:
    with running_valkey() as server:
        yield server


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def both(store: RunningValkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    async with doors(tmp_path_factory.mktemp("doors"), store.url) as opened:
        yield opened
