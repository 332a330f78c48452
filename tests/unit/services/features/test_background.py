"""Tasks beside the calls."""

from __future__ import annotations

import asyncio

import pytest

from services.features.background import Background


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed == 1:
                    raise
                swallowed += 1

    background = Background()
    background.start(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(background.close(), 10)
    assert swallowed == 1


async def test_a_task_that_failed_says_so_when_it_is_closed() -> None:
    async def failing() -> None:
        raise RuntimeError("broken")

    background = Background()
    await background.close()
    background.start(failing())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="broken"):
        await background.close()
