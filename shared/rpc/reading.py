"""Calls whose requests are on their way: so many at most, and so long.

A request comes with its call, or some packets later. Calls whose requests never come would else be held until
their connection breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from shared.errors import DeadlinePassed, Overloaded, WarmstartError

# A message of the largest size that is taken by default comes in that time over 4 Mbit/s.
WITHIN_S = 10.0

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Reading:
    """most: calls at once; the one that has waited longest gives way to one more, which is likely to be read
    at once. turn_away: ends a call of a method, without waiting for it; what reads it is told by gRPC."""

    def __init__(
        self,
        most: int,
        turn_away: Callable[[str, Context, WarmstartError], None],
        within_s: float = WITHIN_S,
    ) -> None:
        self._most = most
        self._turn_away = turn_away
        self._within_s = within_s
        # Method and time by call, the oldest first.
        self._calls: dict[Context, tuple[str, float]] = {}
        self._looking: asyncio.TimerHandle | None = None

    def begin(self, method: str, context: Context) -> None:
        """`end` it in any case."""
        loop = asyncio.get_running_loop()
        self._calls[context] = method, loop.time()
        if len(self._calls) > self._most:
            why = f"requests on their way must be at most {self._most}, got one more"
            self._give_up(next(iter(self._calls)), Overloaded(why))
        if self._looking is None:
            self._looking = loop.call_later(self._within_s, self._look)

    def end(self, context: Context) -> bool:
        """False where the call has been turned away, which nobody may answer any more."""
        return self._calls.pop(context, None) is not None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() - self._within_s
        while self._calls:
            context, (_, since) = next(iter(self._calls.items()))
            if since > late:
                self._looking = loop.call_later(since - late, self._look)
                return
            why = f"the request must come within {self._within_s:g} s of its call"
            self._give_up(context, DeadlinePassed(why))
        self._looking = None

    def _give_up(self, context: Context, why: WarmstartError) -> None:
        method, _ = self._calls.pop(context)
        self._turn_away(method, context, why)
