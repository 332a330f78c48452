"""Servers that die in the midst of what a test has them do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from services.features.store.connection import Store


class Died(Exception):
    """The server, in the middle of it."""


async def dies(*_: Any, **__: Any) -> None:
    raise Died


class Deaths:
    """Of this test's own task, one round trip later each time, until it needs no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._task, self._left, self._replies = asyncio.current_task(), -1, Store._replies
        self.is_survived = False

        async def dying(store: Store, commands: Any, write: bool) -> list[Any]:
            if self._left >= 0 and asyncio.current_task() is self._task:
                if self._left == 0:
                    raise Died
                self._left -= 1
            return await self._replies(store, commands, write)

        monkeypatch.setattr(Store, "_replies", dying)

    def __iter__(self) -> Iterator[int]:
        """After how many round trips the next one is."""
        return itertools.takewhile(lambda _: not self.is_survived, itertools.count())

    async def strike(self, after: int, doing: Awaitable[Any]) -> None:
        self._left = after
        try:
            await doing
            self.is_survived = True
        except Died:
            pass
        finally:
            self._left = -1
