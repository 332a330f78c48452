"""The composition root: everything the gateway is made of, wired in one place.

A new stage is one file in its folder and one row in `stages`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.registry import Collector

from services.gateway.catalogue.details import ItemDetails
from services.gateway.catalogue.follower import Catalogue
from services.gateway.clients import Clients
from services.gateway.fallbacks.last_good import LastGoodFallback
from services.gateway.fallbacks.trending import TrendingFallback
from services.gateway.filters import Filter
from services.gateway.filters.available import AvailableFilter
from services.gateway.filters.blocked import BlockedFilter
from services.gateway.filters.excluded import ExcludedFilter
from services.gateway.filters.rules import RulesFilter
from services.gateway.filters.seen import SeenFilter
from services.gateway.filters.shown import ShownFilter
from services.gateway.hydrators.adapted import AdaptedHydrator
from services.gateway.hydrators.liked import LikedHydrator
from services.gateway.hydrators.person import PersonHydrator
from services.gateway.hydrators.recent_items import RecentItemsHydrator
from services.gateway.impressions import ImpressionLog
from services.gateway.last_good import LastGoodLists
from services.gateway.metrics import ListMetrics
from services.gateway.models import ServingModels
from services.gateway.pipeline import Pipeline, Stages
from services.gateway.ports import Adaptation, Features, Scoring
from services.gateway.rng import Rng, list_rng
from services.gateway.scorers.tasks import TaskScorer
from services.gateway.selectors.boosts import BoostSelector
from services.gateway.selectors.diversity import DiversitySelector
from services.gateway.selectors.exploration import ExplorationSelector
from services.gateway.selectors.pins import PinSelector
from services.gateway.selectors.quotas import QuotaSelector
from services.gateway.servicer import CatalogServicer, RecommendationServicer, UserServicer, register
from services.gateway.settings import GatewaySettings
from services.gateway.similar import SimilarItemsFinder
from services.gateway.sources.fresh import FreshSource
from services.gateway.sources.friends import FriendsSource
from services.gateway.sources.model import ModelSource
from services.gateway.sources.request import RequestSource
from services.gateway.sources.trending import TrendingSource
from services.gateway.tokens import PageTokens
from services.gateway.trending import TrendingSnapshot
from shared.rpc.server import Server
from shared.rpc.waiting import Dependency, Wait
from shared.telemetry.logs import logger

_LOG = logger("gateway")


@dataclass(frozen=True, slots=True)
class Ports:
    """The other services."""

    features: Features
    adaptation: Adaptation
    scoring: Scoring


@dataclass(frozen=True, slots=True)
class Rooms:
    """What lives longer than a request."""

    catalogue: Catalogue
    trending: TrendingSnapshot
    models: ServingModels
    last_good: LastGoodLists
    impressions: ImpressionLog
    metrics: ListMetrics

    @classmethod
    def of(cls, settings: GatewaySettings, ports: Ports) -> Rooms:
        domains = settings.domains
        catalogue = Catalogue(ports.features, domains)
        return cls(
            catalogue,
            TrendingSnapshot(
                ports.features,
                catalogue,
                domains,
                items=settings.trending_items,
                interval_s=settings.trending_refresh_s,
            ),
            ServingModels(ports.adaptation, ports.scoring, domains, interval_s=settings.model_poll_s),
            LastGoodLists(
                people=settings.last_good_lists,
                items=settings.last_good_items,
                age_s=settings.last_good_age_s,
            ),
            ImpressionLog(
                ports.features,
                queue=settings.impression_queue,
                batch=settings.impression_batch,
                linger_s=settings.impression_linger_s,
                flush_timeout_s=settings.flush_timeout_s,
            ),
            ListMetrics.create(),
        )


def stages(settings: GatewaySettings, ports: Ports, rooms: Rooms, rng: Rng = list_rng) -> Stages:
    """All stages, in their order."""
    filters: list[Filter] = [
        SeenFilter(),
        ExcludedFilter(),
        ShownFilter(),
        BlockedFilter(),
        AvailableFilter(rooms.catalogue),
        RulesFilter(rooms.catalogue),
    ]
    return Stages(
        hydrators=[
            PersonHydrator(ports.features),
            LikedHydrator(),
            AdaptedHydrator(ports.adaptation, rooms.models),
            RecentItemsHydrator(rooms.models),
        ],
        sources=[
            RequestSource(),
            ModelSource(
                ports.scoring,
                rooms.catalogue,
                filters,
                candidates=settings.candidates,
                narrow=settings.narrow_filter_items,
                explore_pool=settings.explore_pool,
                rng=rng,
            ),
            FriendsSource(settings.friends_candidates),
            FreshSource(rooms.catalogue, limit=settings.fresh_candidates, window_s=settings.fresh_window_s),
            TrendingSource(rooms.trending, settings.trending_candidates),
        ],
        filters=filters,
        scorers=[TaskScorer(ports.scoring)],
        fallbacks=[LastGoodFallback(rooms.last_good, rooms.trending), TrendingFallback(rooms.trending)],
        selectors=[
            BoostSelector(rooms.catalogue),
            DiversitySelector(settings.diversity),
            QuotaSelector(settings.source_quotas),
            ExplorationSelector(rng),
            PinSelector(),
        ],
    )


def pipeline(settings: GatewaySettings, ports: Ports, rooms: Rooms, rng: Rng = list_rng) -> Pipeline:
    return Pipeline(
        stages=stages(settings, ports, rooms, rng),
        adapted=AdaptedHydrator(ports.adaptation, rooms.models),
        recent_items=RecentItemsHydrator(rooms.models),
        models=rooms.models,
        catalogue=rooms.catalogue,
        details=ItemDetails(ports.features, rooms.catalogue),
        tokens=PageTokens(settings.token_secret.get_secret_value(), age_s=settings.token_age_s),
        last_good=rooms.last_good,
        impressions=rooms.impressions,
        metrics=rooms.metrics,
        exploration_rate=settings.exploration_rate,
        max_list_items=settings.max_list_items,
    )


class Gateway:
    """The gateway as its server sees it (`shared.rpc.server.Component`)."""

    def __init__(self, settings: GatewaySettings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients
        self._ports = Ports(clients.features, clients.adaptation, clients.scoring)
        self.rooms = Rooms.of(settings, self._ports)

    def register(self, server: Server) -> Sequence[str]:
        settings, rooms, features = self._settings, self.rooms, self._clients.features
        details = ItemDetails(features, rooms.catalogue)
        similar = SimilarItemsFinder(
            self._ports.scoring, rooms.catalogue, details, settings.narrow_filter_items
        )
        lists = pipeline(settings, self._ports, rooms)
        return register(
            server,
            RecommendationServicer(lists, similar, features, rooms.last_good, settings.domains),
            CatalogServicer(features, settings.domains),
            UserServicer(features, rooms.last_good, rooms.impressions, settings.domains),
        )

    def collectors(self) -> Iterable[Collector]:
        return (*self.rooms.metrics.collectors, *self.rooms.impressions.collectors)

    async def start(self) -> None:
        """Ready once the catalogue is mirrored. Adaptation and scoring may come later: the ladder holds."""
        rooms = self.rooms
        for room in (rooms.catalogue, rooms.models, rooms.trending, rooms.impressions):
            room.start()
        wait = Wait(self._dependency("features"), self._settings.start_timeout_s)
        try:
            async with asyncio.timeout(wait.timeout_s), wait.noted(self._missing):
                await rooms.catalogue.wait_complete()
        except TimeoutError:
            raise wait.given_up(self._missing()) from None
        # A first look at the rest, so that the first request has it; their absence holds nothing up.
        await asyncio.gather(rooms.models.look(), rooms.trending.look())
        for name in rooms.models.never_heard:
            one = self._dependency(name)
            _LOG.warning("starting_without", dependency=name, address=one.address, setting=one.setting)

    def _dependency(self, name: str) -> Dependency:
        field = f"{name}_target"
        return Dependency.of(self._settings, name, field, getattr(self._settings, field))

    def _missing(self) -> str:
        missing = (f"{domain!r} ({why})" for domain, why in self.rooms.catalogue.incomplete.items())
        return f"has not sent the catalogue of {'; '.join(missing)}"

    async def stop(self) -> None:
        rooms = self.rooms
        await rooms.impressions.stop()
        for room in (rooms.catalogue, rooms.models, rooms.trending):
            await room.stop()
        await self._clients.close()


def build(settings: GatewaySettings) -> Gateway:
    """The gateway over gRPC. Call it inside the event loop: channels belong to it."""
    return Gateway(settings, Clients.connect(settings))
