"""The gateway, called: one method an RPC, our errors raised."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from warmstart.common.v1 import item_pb2
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import catalog_service_pb2_grpc as catalog_rpc
from warmstart.gateway.v1 import recommendation_service_pb2 as recommendation_pb
from warmstart.gateway.v1 import recommendation_service_pb2_grpc as recommendation_rpc
from warmstart.gateway.v1 import user_service_pb2 as user_pb
from warmstart.gateway.v1 import user_service_pb2_grpc as user_rpc

from services.cli import tls
from services.cli.credentials import credential_for
from shared.domain import Event, Item, Relation, User
from shared.rpc.channels import call, connect
from shared.rpc.codec import encode_event, encode_item, encode_relation, encode_user

TIMEOUT_S = 10.0
# Batches of an import wait for the store's disk.
BATCH_TIMEOUT_S = 60.0
_LIST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """A gateway and the domain that is meant in every call."""

    target: str
    domain: str
    recommendations: Any
    catalog: Any
    users: Any
    health: Any

    async def check_health(self) -> None:
        """An empty call: the server answers without any work. Raises where it does not answer."""
        await call(self.health.Check, health_pb2.HealthCheckRequest(), timeout_s=TIMEOUT_S, idempotent=True)

    async def recommend(
        self, request: recommendation_pb.RecommendRequest
    ) -> recommendation_pb.RecommendResponse:
        request.domain = self.domain
        response: recommendation_pb.RecommendResponse = await call(
            self.recommendations.Recommend, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return response

    async def similar(
        self, request: recommendation_pb.ListSimilarItemsRequest
    ) -> recommendation_pb.ListSimilarItemsResponse:
        request.domain = self.domain
        response: recommendation_pb.ListSimilarItemsResponse = await call(
            self.recommendations.ListSimilarItems, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return response

    async def record(
        self, events: Sequence[Event], *, timeout_s: float = TIMEOUT_S
    ) -> list[recommendation_pb.FeedbackResult]:
        """Idempotent where each event has an id, so only then tried again."""
        request = recommendation_pb.RecordFeedbackRequest(
            domain=self.domain, events=map(encode_event, events)
        )
        with_ids = all(e.event_id for e in events)
        response = await call(
            self.recommendations.RecordFeedback, request, timeout_s=timeout_s, idempotent=with_ids
        )
        return list(response.results)

    async def upsert_items(
        self, items: Sequence[Item], *, timeout_s: float = TIMEOUT_S
    ) -> list[item_pb2.ItemResult]:
        request = catalog_pb.UpsertItemsRequest(domain=self.domain, items=map(encode_item, items))
        response = await call(self.catalog.UpsertItems, request, timeout_s=timeout_s, idempotent=True)
        return list(response.results)

    async def get_items(self, item_ids: Sequence[str]) -> catalog_pb.GetItemsResponse:
        request = catalog_pb.GetItemsRequest(domain=self.domain, item_ids=item_ids)
        response: catalog_pb.GetItemsResponse = await call(
            self.catalog.GetItems, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return response

    async def list_items(self, page_size: int, page_token: str = "") -> catalog_pb.ListItemsResponse:
        request = catalog_pb.ListItemsRequest(domain=self.domain, page_size=page_size, page_token=page_token)
        response: catalog_pb.ListItemsResponse = await call(
            self.catalog.ListItems, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return response

    async def all_items(self) -> list[item_pb2.Item]:
        """The whole catalogue, page by page."""
        items: list[item_pb2.Item] = []
        token = ""
        while True:
            page = await self.list_items(_LIST_PAGE, token)
            items.extend(page.items)
            token = page.next_page_token
            if not token:
                return items

    async def delete_items(self, item_ids: Sequence[str]) -> list[item_pb2.ItemResult]:
        request = catalog_pb.DeleteItemsRequest(domain=self.domain, item_ids=item_ids)
        response = await call(self.catalog.DeleteItems, request, timeout_s=TIMEOUT_S, idempotent=True)
        return list(response.results)

    async def upsert_users(
        self, users: Sequence[User], *, timeout_s: float = TIMEOUT_S
    ) -> list[user_pb.RecordResult]:
        request = user_pb.UpsertUsersRequest(domain=self.domain, users=map(encode_user, users))
        response = await call(self.users.UpsertUsers, request, timeout_s=timeout_s, idempotent=True)
        return list(response.results)

    async def upsert_relations(
        self, relations: Sequence[Relation], *, timeout_s: float = TIMEOUT_S
    ) -> list[user_pb.RecordResult]:
        request = user_pb.UpsertRelationsRequest(
            domain=self.domain, relations=map(encode_relation, relations)
        )
        response = await call(self.users.UpsertRelations, request, timeout_s=timeout_s, idempotent=True)
        return list(response.results)

    async def merge_users(self, from_user_id: str, into_user_id: str) -> int:
        """Events moved."""
        request = user_pb.MergeUsersRequest(
            domain=self.domain, from_user_id=from_user_id, into_user_id=into_user_id
        )
        response = await call(self.users.MergeUsers, request, timeout_s=TIMEOUT_S, idempotent=True)
        return int(response.moved_events)

    async def export_user(self, user_id: str) -> user_pb.ExportUserResponse:
        """All pages as one answer."""
        whole = user_pb.ExportUserResponse()
        request = user_pb.ExportUserRequest(domain=self.domain, user_id=user_id)
        while True:
            page: user_pb.ExportUserResponse = await call(
                self.users.ExportUser, request, timeout_s=TIMEOUT_S, idempotent=True
            )
            request.page_token = page.next_page_token
            page.ClearField("next_page_token")
            whole.MergeFrom(page)
            if not request.page_token:
                return whole

    async def delete_user(self, user_id: str) -> bool:
        """Whether anything was held of the person."""
        request = user_pb.DeleteUserRequest(domain=self.domain, user_id=user_id)
        response = await call(self.users.DeleteUser, request, timeout_s=TIMEOUT_S, idempotent=True)
        return bool(response.existed)


@asynccontextmanager
async def open_gateway(target: str, domain: str) -> AsyncIterator[GatewayClient]:
    """A client of the gateway at `target`; connects with the first call."""
    async with connect(target, tls=tls.source(), credential=credential_for(target)) as channel:
        yield GatewayClient(
            target,
            domain,
            recommendation_rpc.RecommendationServiceStub(channel),
            catalog_rpc.CatalogServiceStub(channel),
            user_rpc.UserServiceStub(channel),
            health_pb2_grpc.HealthStub(channel),
        )
