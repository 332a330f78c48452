"""Puts the scoring server together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from services.scoring.clients import FeatureTrending
from services.scoring.scorer import MAX_BATCH, ScoringVersion, run_jobs
from services.scoring.servicer import ScoringHost, ScoringServicer
from services.scoring.settings import ScoringSettings
from services.scoring.trending import TrendFollower
from shared.inference.hosting import ModelComponent, ModelHost
from shared.tls import source_of


@dataclass(frozen=True, slots=True)
class ScoringComponent(ModelComponent):
    """The same with what is trending, which no list waits for."""

    trends: TrendFollower

    async def start(self) -> None:
        self.trends.start()
        await self.host.start()

    async def stop(self) -> None:
        await self.host.stop()
        await self.trends.stop()


def build(settings: ScoringSettings) -> ScoringComponent:
    """Call it on the event loop that serves. Raises ArtifactError where the registry is no directory."""
    feed = None
    if settings.features_target and settings.trending_items:
        feed = FeatureTrending(settings.features_target, source_of(settings.calling_tls))
    trends = TrendFollower(
        feed, settings.domains, limit=settings.trending_items, interval_s=settings.trends_interval_s
    )
    load = partial(ScoringVersion.load, trending=trends.latest, intra_op_threads=settings.intra_op_threads)
    host: ScoringHost = ModelHost(settings, load, run_jobs, max_batch=MAX_BATCH)
    return ScoringComponent(host, ScoringServicer(host).register, trends)
