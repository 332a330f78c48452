"""A dead service must not cost its whole timeout on each request.

After some failures in a row the service counts as away and is not asked (open). After `open_s`, one call is
let through (half-open): success closes, failure opens again. Probes from the background shorten and spare
that: a probe that finds the service lets the next call through at once, one that does not puts it off.
(M. Nygard, "Release It!", 2nd ed., ch. 5, "Circuit Breaker".)
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.errors import DeadlinePassed, NoModel, Unavailable, WarmstartError

T = TypeVar("T")
# In an error's metadata: the service that it came from.
SERVICE_KEY = "service"
# A deadline that is noticed so much later than it passed: this process stood still, and with it the answer.
_STALL_S = 0.25


class Breaker:
    """One service's. Only losses count: UNAVAILABLE, and a deadline that passed where the call was given
    `patience_s` or more. Other errors are answers, and a caller in a hurry says nothing of the service: its
    deadlines must not take it from all others. Nor do deadlines that passed while this process itself stood
    still (paused, starved): of one stall, all services would count as away at once.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        open_s: float,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = failures
        self._open_s = open_s
        self._patience_s = patience_s
        self._clock = clock
        self._failures = 0
        self._try_at = 0.0
        self._trial = False

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    async def run(self, call: Callable[[], Awaitable[T]], *, given_s: float = float("inf")) -> T:
        """The call's answer. Raises Unavailable at once while the service counts as away.

        given_s: the time after which the call gives up by itself.
        """
        trial = self._admit()
        began = self._clock()
        try:
            answer = await call()
        except WarmstartError as error:
            self._note(error, given_s, self._clock() - began)
            raise
        else:
            self._failures = 0
            return answer
        finally:
            if trial:
                self._trial = False

    async def probe(self, call: Callable[[], Awaitable[T]], *, given_s: float = float("inf")) -> T:
        """A write, or a call from the background: always made, and what comes of it is noted."""
        began = self._clock()
        try:
            answer = await call()
        except WarmstartError as error:
            if not _is_loss(self._named(error)):
                self._found()
            elif self._tells(error, given_s, self._clock() - began):
                self._failed()
            raise
        self._found()
        return answer

    def _admit(self) -> bool:
        """True where this call is the trial of an open breaker."""
        if not self.is_open:
            return False
        if self._trial or self._clock() < self._try_at:
            raise self._named(Unavailable(f"{self._name} is away and was not asked"))
        self._trial = True
        return True

    def _failed(self) -> None:
        self._failures += 1
        if self.is_open:
            self._try_at = self._clock() + self._open_s

    def _note(self, error: WarmstartError, given_s: float, took_s: float) -> None:
        if not _is_loss(self._named(error)):
            self._failures = 0
        elif self._tells(error, given_s, took_s):
            self._failed()

    def _tells(self, loss: WarmstartError, given_s: float, took_s: float) -> bool:
        """Whether a loss is one of the service's, and not of a caller in a hurry or of this process."""
        if not isinstance(loss, DeadlinePassed):
            return True
        return given_s >= self._patience_s and took_s <= given_s + _STALL_S

    def _named(self, error: WarmstartError) -> WarmstartError:
        """The error, saying whose it is: answers name the service that took no part."""
        error.metadata.setdefault(SERVICE_KEY, self._name)
        return error

    def _found(self) -> None:
        """Still open, if it was: a service may answer probes and yet fail at its work. But worth a trial."""
        self._try_at = self._clock()
        if not self.is_open:
            self._failures = 0


def _is_loss(error: WarmstartError) -> bool:
    return isinstance(error, Unavailable | DeadlinePassed) and not isinstance(error, NoModel)
