"""Composition root of the training service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client.registry import Collector

from services.training.service.metrics import TrainingCollector
from services.training.service.models import Models
from services.training.service.servicer import TrainingServicer
from services.training.service.settings import TrainingServiceSettings
from services.training.service.store import TrainingStore
from services.training.service.tidying import KeptDays, Tidying, tidied_counter
from services.training.service.trainings import Limits, Trainings
from shared.processes.trainer import PROGRAM
from shared.rpc.server import Server
from shared.telemetry.logs import logger

_LOG = logger("trainings")
_TIDY_EVERY_S = 3600.0


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def build(
    settings: TrainingServiceSettings,
    *,
    clock: Callable[[], int] = now_ms,
    program: Sequence[str] = PROGRAM,
) -> TrainingComponent:
    """The service as its server runs it; on the event loop of the main thread. program: what trains.

    Raises ArtifactError where the registry is no directory.
    """
    limits = Limits(settings.max_running, settings.stop_s, hold_s=settings.start_timeout_s)
    store = TrainingStore(Path(settings.runs))
    trainings = Trainings(store, settings.places, limits, clock, program)
    servicer = TrainingServicer(
        settings.domains, settings.places, trainings, Models(settings.open_registry())
    )
    days = KeptDays(settings.snapshot_days, settings.run_days)
    return TrainingComponent(trainings, servicer, settings.domains, Path(settings.runs), days)


class TrainingComponent:
    """Lives from `start` to `stop`; see `shared.rpc.server.Component`."""

    def __init__(
        self,
        trainings: Trainings,
        servicer: TrainingServicer,
        domains: Sequence[str],
        runs: Path,
        days: KeptDays,
    ) -> None:
        self._trainings, self._servicer = trainings, servicer
        self._days, self._removed = days, tidied_counter()
        self._tidying = Tidying(runs.resolve(), days, self._removed)
        self._upkeep: asyncio.Task[None] | None = None
        self._collector = TrainingCollector(domains, trainings.counts)

    def register(self, server: Server) -> Sequence[str]:
        return self._servicer.register(server)

    def collectors(self) -> Iterable[Collector]:
        return [self._collector, self._removed]

    async def start(self) -> None:
        await self._trainings.open()
        if self._days != KeptDays():
            self._upkeep = asyncio.create_task(self._tidy_for_ever())

    async def stop(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self._trainings.close()

    async def _tidy_for_ever(self) -> None:
        while True:
            try:
                await self._trainings.tidy(self._tidying)
            except Exception:
                _LOG.exception("tidying_failed")
            await asyncio.sleep(_TIDY_EVERY_S)
