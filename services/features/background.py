"""Tasks that run beside the calls, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_ASK_AGAIN_S = 0.2


class Background:
    """One task that runs until it is closed."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def close(self) -> None:
        """Returns once the task has ended; raises what it failed with.

        Asks again until it has: on Python 3.11 `asyncio.wait_for` (which the store's client uses) swallows
        a cancellation that comes as its work is done (CPython issue 86296).
        """
        task, self._task = self._task, None
        if task is None:
            return
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_ASK_AGAIN_S)
        if not task.cancelled():
            task.result()
