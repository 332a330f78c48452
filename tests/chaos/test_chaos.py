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
async def few(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Two replicas of features alone: model servers take long to start."""
    async with open_world(tmp_path_factory.mktemp("chaos"), SHORT, ("features",)) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("chaos"), SHORT) as world:
        yield world


@pytest.mark.parametrize("name", ["kill-replica-features", "bad-models"])
async def test_callers_get_what_they_are_promised(few: World, name: str) -> None:
    assert await broken_promises(few, name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kill-store", "hang-scoring", "full-disk", "expired-deadlines"])
async def test_callers_get_what_they_are_promised_of_two_replicas_each(world: World, name: str) -> None:
    assert await broken_promises(world, name) == []


async def broken_promises(world: World, name: str) -> list[str]:
    _, claims = await SCENARIOS[name].run(world, name)
    return [f"{claim.text}: {claim.figure}" for claim in claims if not claim.holds]
