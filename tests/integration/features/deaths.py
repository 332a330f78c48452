"""Servers that die, or stall while others go on, in the midst of what a test has them do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from services.features.store.connection import Store


class Died(Exception):
    """The server, in the middle of it."""


async def dies(*_: Any, **__: Any) -> None:
    raise Died


class Strikes:
    """Of this test's own task, one round trip to the store later each time, until it needs no more.

    What strikes it is awaited before the round trip, in a task of its own: it may raise, or let others go on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, blow: Callable[[], Awaitable[None]] = dies) -> None:
        self._task, self._left, self._replies = asyncio.current_task(), -1, Store._replies
        self._blow, self.is_survived = blow, False

        async def struck(store: Store, commands: Any, write: bool) -> list[Any]:
            if self._left >= 0 and asyncio.current_task() is self._task:
                self._left -= 1
                if self._left < 0:
                    await asyncio.create_task(self._struck())
            return await self._replies(store, commands, write)

        monkeypatch.setattr(Store, "_replies", struck)

    async def _struck(self) -> None:
        self.is_survived = False
        await self._blow()

    def __iter__(self) -> Iterator[int]:
        """After how many round trips the next one is."""
        return itertools.takewhile(lambda _: not self.is_survived, itertools.count())

    async def strike(self, after: int, doing: Awaitable[Any]) -> None:
        """is_survived: it came to its end before."""
        self._left, self.is_survived = after, True
        try:
            await doing
        except Died:
            pass
        finally:
            self._left = -1
