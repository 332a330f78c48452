"""The streams that a server has open: so many at most, of all callers and of each; ended as it stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.auth.callers import Caller
from shared.errors import Overloaded, Unavailable

NO_MORE = object()


@dataclass(slots=True, eq=False)
class OpenStream:
    """A stream's answers one by one, until the stopping server ends it.

    Only the wait for the next answer is cut short, never the sending of one: gRPC would not let a call
    end in order that has an operation in work.
    """

    server: str
    answers: AsyncIterator[Any]
    ended: bool = False
    waiting: asyncio.Future[Any] | None = None

    def end(self) -> None:
        self.ended = True
        if self.waiting is not None:
            self.waiting.cancel()

    async def next(self) -> Any:
        """The next answer, NO_MORE after the last one. Raises Unavailable once ended."""
        if not self.ended:
            self.waiting = asyncio.ensure_future(_next(self.answers))
            try:
                return await self.waiting
            except asyncio.CancelledError:
                if not self.ended:
                    raise  # the caller went away
            finally:
                self.waiting = None
        raise Unavailable(f"{self.server} is stopping")


@dataclass(slots=True, eq=False)
class OpenStreams:
    """Of one server. most: open at once; most_a_caller: of one caller, where callers are known."""

    server: str
    most: int
    most_a_caller: int = 0
    _open: set[OpenStream] = field(default_factory=set)
    _by_caller: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def opened(self, answers: AsyncIterator[Any], caller: Caller | None) -> Iterator[OpenStream]:
        """A stream while it is open. Raises Overloaded where that would be one too many."""
        if len(self._open) >= self.most:
            raise Overloaded(f"{self.server} has {self.most} streams open, its limit")
        if caller is not None and self._by_caller[caller.name] >= self.most_a_caller:
            raise Overloaded(f"streams of one caller must be at most {self.most_a_caller}, got one more")
        name = "" if caller is None else caller.name
        stream = OpenStream(self.server, answers)
        self._open.add(stream)
        self._by_caller[name] += 1
        try:
            yield stream
        finally:
            self._open.discard(stream)
            self._by_caller[name] -= 1
            if not self._by_caller[name]:
                del self._by_caller[name]

    def end(self) -> None:
        """Ends all, with UNAVAILABLE."""
        for stream in tuple(self._open):
            stream.end()


async def _next(answers: AsyncIterator[Any]) -> Any:
    return await anext(answers, NO_MORE)
