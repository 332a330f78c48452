"""One training's updates, handed to any number of readers; a slow one holds nobody up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from services.training.service.training import LogLine, Stage, Update

_MAX_PENDING = 1000


class Watchers:
    """The readers of one training."""

    def __init__(self) -> None:
        self._readers: set[_Reader] = set()

    def tell(self, update: Update) -> None:
        for reader in self._readers:
            reader.put(update)

    def end(self) -> None:
        """No more will come; readers stop once they have read what is pending."""
        for reader in self._readers:
            reader.put(None)

    async def updates(self, first: Update) -> AsyncGenerator[Update, None]:
        """`first`, then whatever is told from the first `anext` on, until the end.

        A reader that falls behind gets the newest of a stage's steps instead of each, and loses the oldest
        lines where more than 1,000 updates are pending.
        """
        reader = _Reader()
        self._readers.add(reader)
        try:
            yield first
            while (update := await reader.next()) is not None:
                yield update
        finally:
            self._readers.discard(reader)


class _Reader:
    """What one reader has not read yet; None = the end."""

    def __init__(self) -> None:
        self._pending: deque[Update | None] = deque()
        self._more = asyncio.Event()

    def put(self, update: Update | None) -> None:
        last = self._pending[-1] if self._pending else None
        if isinstance(update, Stage) and isinstance(last, Stage) and last.name == update.name:
            self._pending.pop()
        elif len(self._pending) >= _MAX_PENDING:
            self._drop_oldest()
        self._pending.append(update)
        self._more.set()

    async def next(self) -> Update | None:
        while not self._pending:
            self._more.clear()
            await self._more.wait()
        return self._pending.popleft()

    def _drop_oldest(self) -> None:
        """Of the lines; a training whole is never dropped, as its state would be lost."""
        for place, update in enumerate(self._pending):
            if isinstance(update, (LogLine, Stage)):
                del self._pending[place]
                return
