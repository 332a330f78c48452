"""Long steps of calls that an event loop has in work, one a round.

What calls wait for comes in batches, and what was waited for together goes on together: ten steps of some
milliseconds each in one round of the loop, in which no call is taken up and none refused. Where each waits
for its turn, the same steps take ten rounds, and the loop looks up in between.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """One event loop's. Nobody waits where nobody else has begun a step in this round."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        """Returns when the caller's step may begin: before a step that computes for a while."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._round)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _round(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its caller has gone
                turn.set_result(None)
                turn.get_loop().call_soon(self._round)  # behind the step that has just been let go
                return
        self._taken = False
