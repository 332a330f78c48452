"""What the answer says of its own making: how long each stage took, and which took no part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.gateway.breaker import SERVICE_KEY
from shared.errors import WarmstartError
from shared.telemetry.logs import logger

_LOG = logger("gateway.pipeline")
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Degradation:
    """A stage that took no part, and why."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Timing:
    stage: str
    micros: int


class Notes:
    """Taken while one request is worked on."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._micros: dict[str, int] = {}
        self._degradations: dict[str, str] = {}
        self._failed: set[str] = set()

    @contextmanager
    def stage(self, name: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Times a stage. Where it fails, that is noted and the request goes on without it; `passing` errors
        are raised on."""
        started = self._clock()
        try:
            yield
        except passing:
            raise
        except Exception as error:
            self.failed(name, error)
        finally:
            spent = int((self._clock() - started) * 1e6)
            self._micros[name] = self._micros.get(name, 0) + spent

    def failed(self, name: str, error: Exception) -> None:
        """Notes a failure, under the name of the service that it came from or else of the stage."""
        self._failed.add(name)
        if isinstance(error, WarmstartError):
            reason = f"{error.code}: {error}"
            name = error.metadata.get(SERVICE_KEY, name)
        else:
            # A bug in one stage costs that stage, not the list; the log has all of it.
            _LOG.exception("stage failed", stage=name, exc_info=error)
            reason = f"INTERNAL: {type(error).__name__}"
        self._degradations.setdefault(name, reason[:_SHOWN_CHARS])

    def has_failed(self, stages: Iterable[str]) -> bool:
        return not self._failed.isdisjoint(stages)

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        return tuple(Degradation(stage, reason) for stage, reason in self._degradations.items())

    @property
    def timings(self) -> tuple[Timing, ...]:
        return tuple(Timing(stage, micros) for stage, micros in self._micros.items())
