"""What a start waits for: said at once, then again and again, and in the error where it gives up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.errors import Unavailable
from shared.settings import ServerSettings
from shared.telemetry.logs import logger

SAY_EVERY_S = 10.0
# What is there is there within this; less is nothing to tell.
_LOOK_S = 0.5
_LOG = logger("start")


@dataclass(frozen=True, slots=True)
class Dependency:
    """name: in words, such as "the store"; address: where it is looked for, without secrets; setting: the
    variable that says so."""

    name: str
    address: str
    setting: str

    @classmethod
    def of(cls, settings: ServerSettings, name: str, field_name: str, address: str) -> Dependency:
        prefix = str(settings.model_config.get("env_prefix", ""))
        return cls(name, address, f"{prefix}{field_name.upper()}")


@dataclass(slots=True)
class Wait:
    """One wait for one dependency, for at most timeout_s seconds (start_timeout_s). Begins when it is made.

    every_s: seconds between two lines of the log about it.
    """

    dependency: Dependency
    timeout_s: float
    every_s: float = SAY_EVERY_S
    _began: float = field(default_factory=time.monotonic)
    _said: float = float("-inf")

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        return self.waited_s >= self.timeout_s

    def note(self, reason: str) -> None:
        """It is not there yet, and why as far as is known. Call it as often as you like."""
        now = time.monotonic()
        if now - self._said < self.every_s:
            return
        self._said = now
        one = self.dependency
        _LOG.warning(
            "waiting_for_dependency",
            dependency=one.name,
            address=one.address,
            setting=one.setting,
            reason=reason,
            waited_s=round(self.waited_s, 1),
            timeout_s=self.timeout_s,
        )

    def found(self) -> None:
        """It is there. Says so where it was said that it is not."""
        if self._said > float("-inf"):
            _LOG.info("dependency_found", dependency=self.dependency.name, waited_s=round(self.waited_s, 1))
            self._said = float("-inf")

    def given_up(self, reason: str) -> Unavailable:
        """The error of a start that waited long enough."""
        one = self.dependency
        return Unavailable(
            f"waited start_timeout_s={self.timeout_s:g} s for {one.name} at {one.address}: {reason}"
            f" (set {one.setting} where it is elsewhere)"
        )

    @asynccontextmanager
    async def noted(self, reason: Callable[[], str]) -> AsyncIterator[None]:
        """While the block waits by itself, notes what it waits for."""

        async def say() -> None:
            while True:
                await asyncio.sleep(_LOOK_S)
                self.note(reason())

        saying = asyncio.create_task(say())
        try:
            yield
            self.found()
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
