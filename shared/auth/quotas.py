"""Token buckets: how much a caller may ask for.

A call takes one token for each 100 elements of its longest list (events, items, ids …, or the page that it
asks for, also by saying no size), at least one: a thousand events cost what ten lists do, which is about what
they take. It counts whatever comes of it. A bucket lets a call through that costs more than it can hold, once
it is full; its caller then waits the longer. One replica's buckets know nothing of another's: `replicas` says
how many share a caller's calls.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

from shared.auth.callers import Caller, Quota
from shared.errors import RETRY_KEY, QuotaExceeded
from shared.limits import MAX_EVENTS_A_CALL, MAX_EXPORT_ROWS

ELEMENTS_A_TOKEN = 100
MAX_BUCKETS = 10_000
# Pages of which a request that says no size gets more than one token's worth.
_DEFAULT_PAGES = {"ExportUserRequest": MAX_EXPORT_ROWS}
# Of a token: who waited as long as told is not refused for the last bit of a float.
_ROUNDING = 1e-9


@dataclass(slots=True)
class Bucket:
    """`tokens` as of `at`, on the clock of whoever holds it. It may owe some: then it is below 0."""

    rate: float
    burst: float
    tokens: float
    at: float

    def wait_s(self, cost: float, now: float) -> float:
        """Takes `cost` tokens and returns 0, or takes none and returns the time until they are there."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        missing = min(cost, self.burst) - self.tokens
        if missing > _ROUNDING:
            return missing / self.rate
        self.tokens -= cost
        return 0.0


class Quotas:
    """The buckets of a server's callers; the least recently used make room for others.

    default: of callers that have none of their own. clock: monotonic, seconds.
    """

    def __init__(
        self,
        default: Quota,
        *,
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
        most: int = MAX_BUCKETS,
    ) -> None:
        self._default, self._replicas = default, replicas
        self._clock, self._most = clock, most
        self._buckets: OrderedDict[str, tuple[Quota, Bucket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def charge(self, caller: Caller, cost: int) -> None:
        """Raises QuotaExceeded with the milliseconds until the call would pass."""
        quota = self._default if caller.quota is None else caller.quota
        if quota.unlimited:
            return
        wait_s = self._bucket(caller.name, quota).wait_s(cost, self._clock())
        if wait_s > 0.0:
            retry_ms = max(1, ceil(1000.0 * wait_s - _ROUNDING))
            raise QuotaExceeded(
                f"calls must be at most {quota.rate:g} a second, {quota.at_once:g} at once, for this caller, "
                f"got one more, which costs {cost}; it may come again in {retry_ms} ms",
                metadata={RETRY_KEY: str(retry_ms)},
            )

    def _bucket(self, name: str, quota: Quota) -> Bucket:
        known = self._buckets.get(name)
        if known is not None and known[0] == quota:
            self._buckets.move_to_end(name)
            return known[1]
        burst = max(1.0, quota.burst / self._replicas)
        bucket = Bucket(quota.rate / self._replicas, burst, burst, self._clock())
        self._buckets[name] = quota, bucket
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket


def cost_of(request: Any) -> int:
    """Tokens that a request (a protobuf message) takes; no more for what no request may ask for."""
    elements = min(max(_counts(request), default=0), MAX_EVENTS_A_CALL)
    return max(1, -(-elements // ELEMENTS_A_TOKEN))


def _counts(request: Any) -> Iterator[int]:
    for field, value in request.ListFields():
        if field.is_repeated:
            yield len(value)
        elif field.name == "page_size":
            yield value
    if not getattr(request, "page_size", None):
        yield _DEFAULT_PAGES.get(request.DESCRIPTOR.name, 0)
