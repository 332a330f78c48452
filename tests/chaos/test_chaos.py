"""The short form of `make chaos`: a scenario of each kind, seconds each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.open import open_world
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.world import SHORT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("chaos"), SHORT) as world:
        yield world


@pytest.mark.parametrize(
    "name",
    [
        "kill-replica-features",
        "bad-models",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("kill-store", "hang-scoring", "full-disk", "expired-deadlines")
        ),
    ],
)
async def test_callers_get_what_they_are_promised(world: World, name: str) -> None:
    _, claims = await SCENARIOS[name].run(world, name)
    assert [f"{claim.text}: {claim.figure}" for claim in claims if not claim.holds] == []
