"""Servers that die, or stall while others go on, in the midst of what a test has them do."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
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


class Muddle:
    """Deeds of several servers at once, by chance: each begins after a pause, as does each of its round trips
    to the store, and half of them die at one in twelve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
        self._monkeypatch, self._chance = monkeypatch, chance
        self._mortal, self._replies = set[asyncio.Task[None] | None](), Store._replies

    async def of(self, deeds: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> None:
        """Returns when each has come to its end, or has died."""

        async def paused(store: Store, commands: Any, write: bool) -> list[Any]:
            if asyncio.current_task() in self._mortal and self._chance.random() < 1 / 12:
                raise Died
            await self._pause(0, 0, 0, 0.001, 0.003, 0.01, 0.03)
            return await self._replies(store, commands, write)

        with self._monkeypatch.context() as patch:
            patch.setattr(Store, "_replies", paused)
            tasks = [asyncio.create_task(self._do(deed)) for deed in deeds]
            self._mortal = {task for task in tasks if self._chance.random() < 0.5}
            await asyncio.gather(*tasks)

    async def _do(self, deed: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        await self._pause(0, 0.005, 0.02, 0.05)
        with suppress(Died):
            await deed()

    async def _pause(self, *seconds: float) -> None:
        await asyncio.sleep(self._chance.choice(seconds))
