"""Which calls are let in and when: a server that is asked for too much does in time what it takes on.

gRPC for asyncio takes up a new call in every third round of the event loop or so, and a round lasts as long
as all that is ready to run in it. A server that begins whatever comes makes its rounds so long that calls
wait unseen to be taken up, and then it works for callers who have gone: a handler of 5 ms answered 16 of the
100 a second that it could, at 5 times that many. So while others are in work, a call begins only after a
short round, and waits in a queue of ours until then: what matters most first, and refused at once where its
turn would come too late. Where calls in work only wait for another server, rounds are short, and nothing is
held up. A burst may take half of its callers' time; in a queue that stands a call waits a fraction of a
second at most (Maurer, "Fail at Scale", ACM Queue 13(8), 2015, after CoDel). What not even that takes up in
time gRPC itself refuses (`MAX_PENDING` in `server.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from shared.errors import RETRY_KEY, Overloaded, Unavailable

# So many calls in work are never too many: one computes while another waits.
_ALWAYS = 2
_SHORT_ROUND_S = 0.002
# Of what a caller has left, a call may spend so much in the queue, and this where there is no deadline.
_SHARE_OF_REMAINING = 0.5
_WITHOUT_DEADLINE_S = 5.0
# A queue that has not been empty for so long is no burst: there is too much to do.
_STANDING_S = 1.0
# How much a beginning counts in the typical time between two.
_NEW_WEIGHT = 0.1
_LONGEST_BETWEEN_S = 0.5


class Priority(IntEnum):
    """Whose turn comes first."""

    WRITE = 0  # what people did, said or asked to be forgotten
    LIST = 1  # somebody waits for it
    BULK = 2  # imports, exports, batches: their callers come again


# Longest time in a queue that stands: what is taken on then is answered soon, and the rest refused at once.
_PATIENCE_S = {Priority.WRITE: 2.0, Priority.LIST: 0.2, Priority.BULK: 1.0}

_WRITES = ("RecordFeedback", "RecordEvents", "DeleteUser", "MergeUsers")
_BULK = (
    "UpsertItems", "DeleteItems", "ListItems", "UpsertUsers", "UpsertRelations", "ExportUser",
    "BatchAdaptUsers", "FindErasedUsers", "ListTrainings", "ListModels",
)  # fmt: skip
_BY_NAME = {**dict.fromkeys(_WRITES, Priority.WRITE), **dict.fromkeys(_BULK, Priority.BULK)}


def priority_of(method: str) -> Priority:
    """Of a full method name, "/package.Service/Method"."""
    return _BY_NAME.get(method.rpartition("/")[2], Priority.LIST)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call in the queue. until: when its turn would come too late, on the admission's clock."""

    until: float
    turn: asyncio.Future[None]

    @property
    def has_begun(self) -> bool:
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


@dataclass(slots=True, eq=False)
class Admission:
    """Of one server's unary calls. most: in work and in the queue together; ready: whether any is let in."""

    name: str
    most: int
    clock: Callable[[], float] = time.monotonic
    ready: bool = False
    in_work: int = 0
    _queues: tuple[deque[_Waiting], ...] = field(default_factory=lambda: tuple(deque() for _ in Priority))
    _round_at: float = 0.0
    _begun_at: float = 0.0
    _between_s: float = 0.0
    _pumping: bool = False
    _full_since: float = 0.0

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return sum(map(len, self._queues))

    def check(self, priority: Priority, remaining_s: float | None = None) -> None:
        """Raises Unavailable or Overloaded where a call that arrives now is not let in.

        remaining_s: until its deadline, None = it has none.
        """
        if not self.ready:
            raise Unavailable(f"{self.name} is starting or stopping")
        if self.in_work + self.waiting >= self.most:
            raise self._overloaded(f"has {self.most} calls in work, its limit", 0.0)
        before = sum(map(len, self._queues[: priority + 1]))
        wait_s, allowed_s = before * self._between_s, self._allowed_s(priority, remaining_s)
        if wait_s > allowed_s:
            what = f"has {before} calls waiting, for {wait_s:.3f} s; this one may wait {allowed_s:.3f} s"
            raise self._overloaded(what, wait_s - allowed_s)

    async def begin(self, priority: Priority, remaining_s: float | None = None) -> None:
        """Returns when the call is in work; `end` it in any case. Raises what `check` does, also later,
        where its turn comes too late; it is not in work then."""
        self.check(priority, remaining_s)
        if self._pumping or self.in_work >= _ALWAYS:
            await self._turn(priority, self._allowed_s(priority, remaining_s))
        else:
            self.in_work += 1

    def end(self) -> None:
        """A call that was in work has ended."""
        self.in_work -= 1

    async def _turn(self, priority: Priority, allowed_s: float) -> None:
        loop, queue = asyncio.get_running_loop(), self._queues[priority]
        waiting = _Waiting(self.clock() + allowed_s, loop.create_future())
        if not self._pumping:
            self._pumping = True
            self._round_at = self._begun_at = self._full_since = self.clock()
            loop.call_soon(self._round)
        queue.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.has_begun:
                self.in_work -= 1  # it was its turn, and the caller had gone
            elif waiting in queue:
                queue.remove(waiting)
            raise

    def _round(self) -> None:
        """Once in each round of the event loop while calls wait: one begins if the last round was short."""
        now = self.clock()
        short = now - self._round_at < _SHORT_ROUND_S
        self._round_at = now
        self._refuse_late(now)
        if short or self.in_work < _ALWAYS:
            self._begin_next(now)
        self._pumping = self.waiting > 0
        if self._pumping:
            asyncio.get_running_loop().call_soon(self._round)

    def _begin_next(self, now: float) -> None:
        for queue in self._queues:
            while queue:
                waiting = queue.popleft()
                if waiting.turn.done():  # its caller has gone, and it has not been told yet
                    continue
                waiting.turn.set_result(None)
                self.in_work += 1
                between_s = min(_LONGEST_BETWEEN_S, now - self._begun_at)
                self._between_s += _NEW_WEIGHT * (between_s - self._between_s)
                self._begun_at = now
                return

    def _refuse_late(self, now: float) -> None:
        """Whoever came later may have to be told sooner: callers have deadlines of their own."""
        for queue in self._queues:
            for waiting in [w for w in queue if now > w.until]:
                queue.remove(waiting)
                if not waiting.turn.done():
                    waiting.turn.set_exception(self._overloaded("could not begin it in time", 0.0))

    def _allowed_s(self, priority: Priority, remaining_s: float | None) -> float:
        """How long a call that arrives now may wait."""
        allowed_s = _WITHOUT_DEADLINE_S if remaining_s is None else _SHARE_OF_REMAINING * remaining_s
        standing = self._pumping and self.clock() - self._full_since > _STANDING_S
        return min(allowed_s, _PATIENCE_S[priority]) if standing else allowed_s

    def _overloaded(self, what: str, again_s: float) -> Overloaded:
        retry_ms = max(50, int(1000.0 * again_s))
        return Overloaded(f"{self.name} {what}", metadata={RETRY_KEY: str(retry_ms)})
