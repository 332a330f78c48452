"""Which calls are let in and when: a server that is asked for too much does in time what it takes on.

A call begins at once while few are in work, and waits in a queue of ours otherwise: what matters most first,
and refused at once where its turn would come too late. Two things hold beginnings up:

- A long round of the event loop. What begins makes rounds longer for all that is in work: a handler of 5 ms
  answered 16 of the 100 a second that it could, at 5 times that many. Where calls in work only wait for
  another server, rounds are short, and nothing is held up.
- As many in work as can be done in time, which is learned: where they take too much of their callers' time,
  be it here or in the servers behind, fewer are in work at once (additive increase, multiplicative decrease:
  Chiu and Jain, 1989; for servers: Netflix' concurrency-limits, 2018).

A burst may take half of its callers' time; in a queue that stands a call waits a fraction of a second at most
(Maurer, "Fail at Scale", ACM Queue 13(8), 2015, after CoDel).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise

from shared.errors import RETRY_KEY, Overloaded, Unavailable

# So many calls in work are never too many: one computes while another waits.
_ALWAYS = 2
_SHORT_ROUND_S = 0.002
# Of what a caller has left, a call may spend so much in the queue, and this where there is no deadline.
_SHARE_OF_REMAINING = 0.5
_WITHOUT_DEADLINE_S = 5.0
# A queue that has not been empty for so long, nor for what a caller has left, is no burst: there is too much
# to do. Then a call may wait this share of what is left.
_STANDING_S = 1.0
_SHARE_STANDING = 0.2
# Who was let in gets some more: what was read and queued, and is refused after all, has cost most.
_LET_IN = 1.5
# The time between two beginnings is that of so many latest ones; fewer than the first number tell nothing.
_REMEMBERED = (16, 32)
# Of the pauses between them the longest are left out, one of so many: stalls say nothing of what follows.
_A_STALL_IN = 8
# A call that takes more of its caller's time than this, once in work, says that too many are.
_SHARE_IN_WORK = 0.3
_LEAST_LIMIT, _FIRST_LIMIT = 8.0, 32.0
# What the limit is multiplied by where calls take too long: by how much too long, within these.
_DECREASE = (0.5, 0.9)
# The request of a call that was let in is read within some rounds of the loop, or never.
_ON_ITS_WAY_S = 0.1
# Bulk calls may wait long for a disk, and would take the places of all lists.
_SHARE_OF_BULK = 0.5
# So may writes where it hangs. Of all places neither writes nor the others get more than this.
_SHARE_OF_EITHER = 0.75
_AGAIN_S = 1.0


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


@dataclass(slots=True)
class Limit:
    """How many calls may be in work at once, learned from how long they take. most: whatever is learned."""

    most: float
    value: float = _FIRST_LIMIT
    _decreased_at: float = 0.0

    def learn(self, begun_at: float, now: float, allowed_s: float, *, full: bool) -> None:
        """A call that began at `begun_at` has ended. allowed_s: longer is too long; full: whether as many as
        the limit allows were in work: where fewer are asked for, nothing is learned of more."""
        took_s = now - begun_at
        if took_s <= allowed_s:
            if full:
                self.value = min(self.most, self.value + 1.0 / self.value)
        elif begun_at >= self._decreased_at:  # of calls that began before, one decrease was enough
            least, most = _DECREASE
            self.value = max(_LEAST_LIMIT, self.value * min(most, max(least, allowed_s / took_s)))
            self._decreased_at = now


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call in the queue. until: when its turn would come too late, on the admission's clock."""

    until: float
    turn: asyncio.Future[None]

    @property
    def has_begun(self) -> bool:
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


@dataclass(frozen=True, slots=True)
class Place:
    """Of a call in work. allowed_s: how long it may be before it says that too many are."""

    priority: Priority
    begun_at: float
    allowed_s: float


@dataclass(slots=True, eq=False)
class Admission:
    """Of one server's unary calls. most: in work and in the queue together, of which some are kept for writes
    and some for all else; ready: whether any is let in."""

    name: str
    most: int
    clock: Callable[[], float] = time.monotonic
    # What the event loop's thread has computed: to wait for a processor makes no round long.
    computed: Callable[[], float] = time.thread_time
    ready: bool = False
    in_work: int = 0
    # Of those in work, the ones that the limit counts: writes wait for a disk, not for their turn.
    limited: int = 0
    bulk: int = 0
    limit: Limit = field(init=False)
    _queues: tuple[deque[_Waiting], ...] = field(default_factory=lambda: tuple(deque() for _ in Priority))
    # When calls were let in whose requests are still being read.
    _coming: tuple[deque[float], ...] = field(default_factory=lambda: tuple(deque() for _ in Priority))
    _begun: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED[1]))
    _computed_before: float = 0.0
    _full_since: float = 0.0
    # The next round, where calls wait: at once, or at a time where only an end or a beginning can help.
    _next: asyncio.Handle | None = None
    _pausing: bool = False

    def __post_init__(self) -> None:
        self.limit = Limit(float(self._most_of_either), min(_FIRST_LIMIT, float(self._most_of_either)))

    @property
    def _most_of_either(self) -> int:
        return math.ceil(_SHARE_OF_EITHER * self.most)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return sum(map(len, self._queues))

    def let_in(self, priority: Priority, remaining_s: float | None = None) -> None:
        """A call has come, and nothing of it was read. Raises Unavailable or Overloaded where it is not let
        in; else it counts among those before others until it has `arrived`.

        remaining_s: until its deadline, None = it has none.
        """
        now = self.clock()
        for coming in self._coming:
            while coming and now - coming[0] > _ON_ITS_WAY_S:  # its caller has gone
                coming.popleft()
        self._check(priority, self._allowed_s(priority, remaining_s), self._coming)
        self._coming[priority].append(now)

    def arrived(self, priority: Priority) -> None:
        """The request of a call that was let in has been read."""
        if self._coming[priority]:
            self._coming[priority].popleft()

    def _check(self, priority: Priority, allowed_s: float, coming: Sequence[deque[float]] = ()) -> None:
        if not self.ready:
            raise Unavailable(f"{self.name} is starting or stopping")
        held = self.in_work + self.waiting + sum(map(len, coming))
        if held >= self.most:
            raise self._overloaded(f"has {self.most} calls in work, its limit", 0.0)
        writes = self.in_work - self.limited + len(self._queues[Priority.WRITE]) + sum(map(len, coming[:1]))
        is_write = priority is Priority.WRITE
        alike, what = (writes, "writes") if is_write else (held - writes, "calls that are no writes")
        if alike >= self._most_of_either:
            raise self._overloaded(f"has {alike} {what} in work, its limit", _AGAIN_S)
        before = sum(map(len, self._queues[: priority + 1])) + sum(map(len, coming[: priority + 1]))
        wait_s = before * self._between_s()
        if wait_s > allowed_s:
            what = f"has {before} calls waiting, for {wait_s:.3f} s; this one may wait {allowed_s:.3f} s"
            raise self._overloaded(what, wait_s - allowed_s)

    async def begin(self, priority: Priority, remaining_s: float | None = None) -> Place:
        """Returns when the call is in work; `end` it then. Raises what `let_in` does, also later, where its
        turn comes too late."""
        allowed_s = self._allowed_s(priority, remaining_s, _LET_IN)
        self._check(priority, allowed_s)
        if self._next is not None or self.in_work >= _ALWAYS:
            await self._turn(priority, allowed_s)
        else:
            self._count(priority, 1)
        left_s = _WITHOUT_DEADLINE_S if remaining_s is None else remaining_s
        return Place(priority, self.clock(), _SHARE_IN_WORK * left_s)

    def end(self, place: Place) -> None:
        """The call at `place` has ended."""
        if place.priority is Priority.LIST:
            full = self.waiting > 0 or self.limited >= self.limit.value
            self.limit.learn(place.begun_at, self.clock(), place.allowed_s, full=full)
        self._count(place.priority, -1)

    def _count(self, priority: Priority, change: int) -> None:
        self.in_work += change
        self.limited += change * (priority is not Priority.WRITE)
        self.bulk += change * (priority is Priority.BULK)
        if change < 0 and self._pausing:
            self._soon()

    async def _turn(self, priority: Priority, allowed_s: float) -> None:
        queue = self._queues[priority]
        now = self.clock()
        waiting = _Waiting(now + allowed_s, asyncio.get_running_loop().create_future())
        if self._next is None:
            self._full_since = now
            self._begun.clear()
        queue.append(waiting)
        if self._next is None or self._pausing:
            self._soon()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.has_begun:
                self._count(priority, -1)  # it was its turn, and the caller had gone
            elif waiting in queue:
                queue.remove(waiting)
            raise

    def _soon(self) -> None:
        """The next round of the event loop is looked at, and measured."""
        if self._next is not None:
            self._next.cancel()
        self._computed_before = self.computed()
        self._pausing = False
        self._next = asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        """In each round of the event loop while calls could begin: one does if the last round was short."""
        if self._next is not None:
            self._next.cancel()
        now = self.clock()
        computed_s, self._computed_before = self._computed_before, self.computed()
        short = self._computed_before - computed_s < _SHORT_ROUND_S
        self._refuse_late(now)
        if short or self.in_work < _ALWAYS:
            self._begin_next(now)
        loop = asyncio.get_running_loop()
        self._pausing = False
        if not self.waiting:
            self._next = None
        elif self._has_room(self._first_waiting()):
            self._next = loop.call_soon(self._round)
        else:
            # Looking at every round would take the time that those in work need.
            self._pausing = True
            until = min(queue[0].until for queue in self._queues if queue)
            self._next = loop.call_later(max(0.0, until - now) + _SHORT_ROUND_S, self._soon)

    def _first_waiting(self) -> Priority:
        return next(priority for priority in Priority if self._queues[priority])

    def _has_room(self, priority: Priority) -> bool:
        if priority is Priority.BULK and self.bulk >= _SHARE_OF_BULK * self.limit.value:
            return False
        return priority is Priority.WRITE or self.limited < self.limit.value

    def _begin_next(self, now: float) -> None:
        for priority, queue in zip(Priority, self._queues, strict=True):
            while queue and self._has_room(priority):
                waiting = queue.popleft()
                if waiting.turn.done():  # its caller has gone, and it has not been told yet
                    continue
                waiting.turn.set_result(None)
                self._count(priority, 1)
                self._begun.append(now)
                return

    def _refuse_late(self, now: float) -> None:
        """Whoever came later may have to be told sooner: callers have deadlines of their own."""
        for queue in self._queues:
            for waiting in [w for w in queue if now > w.until]:
                queue.remove(waiting)
                if not waiting.turn.done():
                    waiting.turn.set_exception(self._overloaded("could not begin it in time", 0.0))

    def _between_s(self) -> float:
        """Seconds between two beginnings of late, 0 where nobody waits or there have been too few to tell: a
        server that was just started, or whose disk or processor stalls, is slow for some calls."""
        count = len(self._begun) if self._next is not None else 0
        if count < _REMEMBERED[0]:
            return 0.0
        pauses = sorted(later - earlier for earlier, later in pairwise((*self._begun, self.clock())))
        kept = pauses[: count - count // _A_STALL_IN]
        return sum(kept) / len(kept)

    def _allowed_s(self, priority: Priority, remaining_s: float | None, more: float = 1.0) -> float:
        """How long a call that arrives now may wait; in a queue that stands, so many times that."""
        left_s = 2.0 * _WITHOUT_DEADLINE_S if remaining_s is None else remaining_s
        stood_s = self.clock() - self._full_since if self._next is not None else 0.0
        # A server behind that stalls makes a queue stand, too: to callers with time it is a burst yet.
        if stood_s > max(_STANDING_S, min(left_s, _WITHOUT_DEADLINE_S)):
            patience_s = more * max(_PATIENCE_S[priority], _SHARE_STANDING * left_s)
            return min(_SHARE_OF_REMAINING * left_s, patience_s)
        return _SHARE_OF_REMAINING * left_s

    def _overloaded(self, what: str, again_s: float) -> Overloaded:
        retry_ms = max(50, round(1000.0 * again_s))
        return Overloaded(f"{self.name} {what}", metadata={RETRY_KEY: str(retry_ms)})
