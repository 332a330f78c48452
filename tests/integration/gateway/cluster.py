"""The whole cluster in one process: real Valkey, features, adaptation, scoring and gateway over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from warmstart.common.v1 import event_pb2, item_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1.catalog_service_pb2_grpc import CatalogServiceStub
from warmstart.gateway.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from warmstart.gateway.v1.user_service_pb2_grpc import UserServiceStub

from services.adaptation.app import build as build_adaptation
from services.adaptation.settings import AdaptationSettings
from services.features.app import build as build_features
from services.features.settings import FeatureSettings
from services.gateway.app import Gateway
from services.gateway.app import build as build_gateway
from services.gateway.settings import GatewaySettings
from services.scoring.app import build as build_scoring
from services.scoring.settings import ScoringSettings
from shared.rpc.channels import call, connect, stream
from shared.rpc.server import running
from tests.ports import free_port

DOMAINS = ("default", "empty")


class Cluster:
    """Servers by name, each on a port of its own that it keeps when it is stopped and started again."""

    def __init__(self, store_url: str, registry: Path) -> None:
        self._ports = {name: free_port() for name in ("features", "adaptation", "scoring", "gateway")}
        self._stacks: dict[str, AsyncExitStack] = {}
        self._store_url = store_url
        self._registry = str(registry)
        # All are in one process, which stalls while one of them loads a model on a busy machine.
        self.patience_s = 10.0
        self.gateway: Gateway | None = None
        self.components: dict[str, Any] = {}
        self._channels: list[grpc.aio.Channel] = []

    def target(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}"

    async def start(self, name: str) -> None:
        stack = AsyncExitStack()
        component, settings = getattr(self, f"_{name}")()
        self.components[name] = component
        await stack.enter_async_context(running(component, settings, name=name))
        self._stacks[name] = stack

    async def stop(self, name: str) -> None:
        await self._stacks.pop(name).aclose()

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
        for name in list(self._stacks)[::-1]:
            await self.stop(name)

    def channel(self, name: str) -> grpc.aio.Channel:
        channel = connect(self.target(name))
        self._channels.append(channel)
        return channel

    def _common(self, name: str) -> dict[str, Any]:
        return {"port": self._ports[name], "domains": DOMAINS, "grace_s": 0.2, "drain_s": 0.0}

    def _features(self) -> tuple[Any, Any]:
        settings = FeatureSettings(**self._common("features"), store_url=self._store_url)
        return build_features(settings), settings

    def _models(self) -> dict[str, Any]:
        return {
            "registry": self._registry,
            "features_target": self.target("features"),
            "registry_interval_s": 0.05,
        }

    def _adaptation(self) -> tuple[Any, Any]:
        settings = AdaptationSettings(**self._common("adaptation"), **self._models())
        return build_adaptation(settings), settings

    def _scoring(self) -> tuple[Any, Any]:
        settings = ScoringSettings(**self._common("scoring"), **self._models(), trends_interval_s=0.2)
        return build_scoring(settings), settings

    def _gateway(self) -> tuple[Any, Any]:
        settings = GatewaySettings(
            **self._common("gateway"),
            features_target=self.target("features"),
            adaptation_target=self.target("adaptation"),
            scoring_target=self.target("scoring"),
            token_secret="a secret of the tests",
            trending_refresh_s=0.2,
            model_poll_s=0.1,
            features_timeout_s=self.patience_s,
            adaptation_timeout_s=self.patience_s,
            scoring_timeout_s=self.patience_s,
        )
        self.gateway = build_gateway(settings)
        return self.gateway, settings


class Caller:
    """Calls the gateway as a backend does."""

    def __init__(self, cluster: Cluster) -> None:
        channel = cluster.channel("gateway")
        self.lists: Any = RecommendationServiceStub(channel)
        self.catalog: Any = CatalogServiceStub(channel)
        self.users: Any = UserServiceStub(channel)
        self._features: Any = FeatureServiceStub(cluster.channel("features"))

    async def recommend(self, user_id: str = "ann", **fields: Any) -> pb.RecommendResponse:
        request = pb.RecommendRequest(user_id=user_id, **fields)
        response: pb.RecommendResponse = await call(self.lists.Recommend, request, timeout_s=10)
        return response

    async def similar(self, *item_ids: str, **fields: Any) -> pb.ListSimilarItemsResponse:
        request = pb.ListSimilarItemsRequest(item_ids=item_ids, **fields)
        response: pb.ListSimilarItemsResponse = await call(self.lists.ListSimilarItems, request, timeout_s=10)
        return response

    async def feedback(self, *events: event_pb2.Event, domain: str = "") -> list[pb.FeedbackResult]:
        request = pb.RecordFeedbackRequest(domain=domain, events=events)
        return list((await call(self.lists.RecordFeedback, request, timeout_s=10)).results)

    async def like(self, item_id: str, *, user_id: str = "ann") -> None:
        like = event_pb2.Event(user_id=user_id, item_id=item_id, action=event_pb2.ACTION_LIKE)
        results = await self.feedback(like)
        assert [r.status for r in results] == [pb.FEEDBACK_STATUS_RECORDED]

    async def upsert(self, *items: item_pb2.Item) -> list[item_pb2.ItemResult]:
        request = catalog_pb.UpsertItemsRequest(items=items)
        return list((await call(self.catalog.UpsertItems, request, timeout_s=30)).results)

    async def logged(self, list_id: str) -> list[event_pb2.Event]:
        """The impressions of one list, as features hand them to training, by position."""
        request = features_pb.ExportEventsRequest(include_impressions=True)
        found = [
            event
            async for response in stream(self._features.ExportEvents, request, timeout_s=30)
            for event in response.events
            if event.exposure.list_id == list_id
        ]
        return sorted(found, key=lambda event: event.exposure.position)


@asynccontextmanager
async def cluster_of(
    store_url: str, registry: Path, servers: Sequence[str] = ("features", "adaptation", "scoring", "gateway")
) -> AsyncIterator[Cluster]:
    cluster = Cluster(store_url, registry)
    try:
        for name in servers:
            await cluster.start(name)
        yield cluster
    finally:
        await cluster.close()
