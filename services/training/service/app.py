"""Composition root of the training service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client.registry import Collector

from services.training.service.metrics import TrainingCollector
from services.training.service.models import Models
from services.training.service.servicer import TrainingServicer
from services.training.service.settings import TrainingServiceSettings
from services.training.service.store import TrainingStore
from services.training.service.trainings import Limits, Trainings
from shared.processes.trainer import PROGRAM
from shared.rpc.server import Server


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
    return TrainingComponent(trainings, servicer, settings.domains)


class TrainingComponent:
    """Lives from `start` to `stop`; see `shared.rpc.server.Component`."""

    def __init__(self, trainings: Trainings, servicer: TrainingServicer, domains: Sequence[str]) -> None:
        self._trainings, self._servicer = trainings, servicer
        self._collector = TrainingCollector(domains, trainings.counts)

    def register(self, server: Server) -> Sequence[str]:
        return self._servicer.register(server)

    def collectors(self) -> Iterable[Collector]:
        return [self._collector]

    async def start(self) -> None:
        await self._trainings.open()

    async def stop(self) -> None:
        await self._trainings.close()
