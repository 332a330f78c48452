"""The public door: decode → call → encode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1 import user_service_pb2 as user_pb
from warmstart.gateway.v1.catalog_service_pb2_grpc import (
    CatalogServiceServicer,
    add_CatalogServiceServicer_to_server,
)
from warmstart.gateway.v1.recommendation_service_pb2_grpc import (
    RecommendationServiceServicer,
    add_RecommendationServiceServicer_to_server,
)
from warmstart.gateway.v1.user_service_pb2_grpc import (
    UserServiceServicer,
    add_UserServiceServicer_to_server,
)

from services.gateway.clients import FeaturesClient
from services.gateway.codec import (
    decode_list_query,
    decode_similar_query,
    encode_answer,
    encode_feedback,
    encode_similar,
    retyped,
)
from services.gateway.impressions import ImpressionLog
from services.gateway.last_good import LastGoodLists
from services.gateway.pipeline import Pipeline
from services.gateway.similar import SimilarItemsFinder
from shared.limits import MAX_FEEDBACK_EVENTS, MAX_ITEMS_A_CALL, MAX_RELATIONS_A_CALL, MAX_USERS_A_CALL
from shared.rpc.codec import check_count, check_domain

Context = grpc.aio.ServicerContext[Any, Any]
A = TypeVar("A", bound=Message)
B = TypeVar("B", bound=Message)


@dataclass(frozen=True, slots=True)
class RecommendationServicer(RecommendationServiceServicer):
    pipeline: Pipeline
    similar: SimilarItemsFinder
    features: FeaturesClient
    last_good: LastGoodLists
    domains: Sequence[str]
    clock: Callable[[], float] = time.time

    async def Recommend(self, request: pb.RecommendRequest, context: Context) -> pb.RecommendResponse:
        query = decode_list_query(request, self.domains, int(self.clock() * 1000))
        return encode_answer(await self.pipeline.recommend(query))

    async def RecordFeedback(
        self, request: pb.RecordFeedbackRequest, context: Context
    ) -> pb.RecordFeedbackResponse:
        domain = check_domain(request.domain, self.domains)
        check_count(len(request.events), MAX_FEEDBACK_EVENTS, field="events")
        asked = encode_feedback(request, int(self.clock() * 1000))
        answer = await self.features.forward("RecordEvents", asked, features_pb.RecordEventsResponse)
        for user_id in {event.user_id for event in request.events}:
            self.last_good.forget(domain, user_id)
        return retyped(answer, pb.RecordFeedbackResponse)

    async def ListSimilarItems(
        self, request: pb.ListSimilarItemsRequest, context: Context
    ) -> pb.ListSimilarItemsResponse:
        query = decode_similar_query(request, self.domains)
        return encode_similar(await self.similar.find(query))


@dataclass(frozen=True, slots=True)
class CatalogServicer(CatalogServiceServicer):
    """Features' answers, passed through."""

    features: FeaturesClient
    domains: Sequence[str]

    async def UpsertItems(
        self, request: catalog_pb.UpsertItemsRequest, context: Context
    ) -> catalog_pb.UpsertItemsResponse:
        check_domain(request.domain, self.domains)
        check_count(len(request.items), MAX_ITEMS_A_CALL, field="items")
        asked = retyped(request, features_pb.UpsertItemsRequest)
        answer = await self.features.forward("UpsertItems", asked, features_pb.UpsertItemsResponse)
        return retyped(answer, catalog_pb.UpsertItemsResponse)

    async def GetItems(
        self, request: catalog_pb.GetItemsRequest, context: Context
    ) -> catalog_pb.GetItemsResponse:
        check_domain(request.domain, self.domains)
        check_count(len(request.item_ids), MAX_ITEMS_A_CALL, field="item_ids")
        asked = retyped(request, features_pb.GetItemsRequest)
        answer = await self.features.forward("GetItems", asked, features_pb.GetItemsResponse)
        return retyped(answer, catalog_pb.GetItemsResponse)

    async def ListItems(
        self, request: catalog_pb.ListItemsRequest, context: Context
    ) -> catalog_pb.ListItemsResponse:
        check_domain(request.domain, self.domains)
        asked = retyped(request, features_pb.ListItemsRequest)
        answer = await self.features.forward("ListItems", asked, features_pb.ListItemsResponse)
        return retyped(answer, catalog_pb.ListItemsResponse)

    async def DeleteItems(
        self, request: catalog_pb.DeleteItemsRequest, context: Context
    ) -> catalog_pb.DeleteItemsResponse:
        check_domain(request.domain, self.domains)
        check_count(len(request.item_ids), MAX_ITEMS_A_CALL, field="item_ids")
        asked = retyped(request, features_pb.DeleteItemsRequest)
        answer = await self.features.forward("DeleteItems", asked, features_pb.DeleteItemsResponse)
        return retyped(answer, catalog_pb.DeleteItemsResponse)


@dataclass(frozen=True, slots=True)
class UserServicer(UserServiceServicer):
    """Features' answers, passed through; what the gateway itself keeps of a person goes with them."""

    features: FeaturesClient
    last_good: LastGoodLists
    impressions: ImpressionLog
    domains: Sequence[str]

    async def UpsertUsers(
        self, request: user_pb.UpsertUsersRequest, context: Context
    ) -> user_pb.UpsertUsersResponse:
        domain = check_domain(request.domain, self.domains)
        check_count(len(request.users), MAX_USERS_A_CALL, field="users")
        asked = retyped(request, features_pb.UpsertUsersRequest)
        answer = await self.features.forward("UpsertUsers", asked, features_pb.UpsertUsersResponse)
        for user in request.users:
            self.last_good.forget(domain, user.user_id)
        return retyped(answer, user_pb.UpsertUsersResponse)

    async def UpsertRelations(
        self, request: user_pb.UpsertRelationsRequest, context: Context
    ) -> user_pb.UpsertRelationsResponse:
        check_domain(request.domain, self.domains)
        check_count(len(request.relations), MAX_RELATIONS_A_CALL, field="relations")
        asked = retyped(request, features_pb.UpsertRelationsRequest)
        answer = await self.features.forward("UpsertRelations", asked, features_pb.UpsertRelationsResponse)
        return retyped(answer, user_pb.UpsertRelationsResponse)

    async def MergeUsers(
        self, request: user_pb.MergeUsersRequest, context: Context
    ) -> user_pb.MergeUsersResponse:
        domain = check_domain(request.domain, self.domains)
        # Impressions of the source logged after the merge would bring it back to life.
        await self.impressions.forget(domain, request.from_user_id)
        asked = retyped(request, features_pb.MergeUsersRequest)
        answer = await self.features.forward("MergeUsers", asked, features_pb.MergeUsersResponse)
        await self.impressions.forget(domain, request.from_user_id)  # of lists that were begun meanwhile
        for user_id in (request.from_user_id, request.into_user_id):
            self.last_good.forget(domain, user_id)
        return retyped(answer, user_pb.MergeUsersResponse)

    async def ExportUser(
        self, request: user_pb.ExportUserRequest, context: Context
    ) -> user_pb.ExportUserResponse:
        check_domain(request.domain, self.domains)
        asked = retyped(request, features_pb.ExportUserRequest)
        answer = await self.features.forward("ExportUser", asked, features_pb.ExportUserResponse)
        return retyped(answer, user_pb.ExportUserResponse)

    async def DeleteUser(
        self, request: user_pb.DeleteUserRequest, context: Context
    ) -> user_pb.DeleteUserResponse:
        domain = check_domain(request.domain, self.domains)
        await self.impressions.forget(domain, request.user_id)
        asked = retyped(request, features_pb.DeleteUserRequest)
        answer = await self.features.forward("DeleteUser", asked, features_pb.DeleteUserResponse)
        await self.impressions.forget(domain, request.user_id)  # of lists that were begun meanwhile
        self.last_good.forget(domain, request.user_id)
        return retyped(answer, user_pb.DeleteUserResponse)


def register(
    server: grpc.aio.Server, lists: RecommendationServicer, catalog: CatalogServicer, users: UserServicer
) -> Sequence[str]:
    """Adds the three services; returns their full names."""
    add_RecommendationServiceServicer_to_server(lists, server)
    add_CatalogServiceServicer_to_server(catalog, server)
    add_UserServiceServicer_to_server(users, server)
    files = (pb, catalog_pb, user_pb)
    return [service.full_name for f in files for service in f.DESCRIPTOR.services_by_name.values()]
