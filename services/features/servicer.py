"""The FeatureService over gRPC: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1 import feature_service_pb2_grpc as pb_grpc

from services.features import codec
from services.features.domain import DomainFeatures
from services.features.page_tokens import (
    issue_export_token,
    issue_page_token,
    open_export_token,
    open_page_token,
)
from services.features.store.export import EventSpan
from shared.errors import InvalidInput
from shared.limits import (
    MAX_CARRIED_EVENTS,
    MAX_ERASURES_A_CALL,
    MAX_EVENTS_A_CALL,
    MAX_EXPORT_ROWS,
    MAX_ITEMS_A_CALL,
    MAX_RELATIONS_A_CALL,
    MAX_USERS_A_CALL,
    id_rule,
)
from shared.rpc.codec import (
    check_count,
    check_domain,
    decode_event,
    decode_ids,
    decode_request_context,
    encode_event,
    encode_item,
    encode_relation,
    encode_user,
)

_DEFAULT_TRENDING, _MAX_TRENDING = 200, 10_000
_DEFAULT_PAGE, _MAX_PAGE = 100, 1000
Context = grpc.aio.ServicerContext[Any, Any]


class FeatureServicer(pb_grpc.FeatureServiceServicer):
    """Serves the domains that `domains` holds once they are open."""

    def __init__(self, domains: Mapping[str, DomainFeatures], clock: Callable[[], int]) -> None:
        self._domains, self._clock = domains, clock

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        pb_grpc.add_FeatureServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["FeatureService"].full_name]

    async def RecordEvents(
        self, request: pb.RecordEventsRequest, context: Context
    ) -> pb.RecordEventsResponse:
        domain = self._domain(request)
        check_count(len(request.events), MAX_EVENTS_A_CALL, field="events")
        events, results = codec.decode_events(request.events, now_ms=self._clock())
        statuses = await domain.record(events)
        return pb.RecordEventsResponse(results=codec.encode_event_results(events, statuses, results))

    async def GetUserContext(
        self, request: pb.GetUserContextRequest, context: Context
    ) -> pb.GetUserContextResponse:
        domain, now_ms = self._domain(request), self._clock()
        check_count(len(request.events), MAX_CARRIED_EVENTS, field="events")
        user_id = _user_id(request.user_id, "user_id")
        carried = [
            decode_event(event, field=f"events[{place}]", now_ms=now_ms, default_user_id=user_id)
            for place, event in enumerate(request.events)
        ]
        moment = decode_request_context(request.request, field="request", now_ms=now_ms)
        return codec.encode_extracted(await domain.context(user_id, carried, moment))

    async def ListTrendingItems(
        self, request: pb.ListTrendingItemsRequest, context: Context
    ) -> pb.ListTrendingItemsResponse:
        domain = self._domain(request)
        limit = _bounded("limit", request.limit, _DEFAULT_TRENDING, _MAX_TRENDING)
        item = pb.ListTrendingItemsResponse.TrendingItem
        found = await domain.trending_items(limit)
        return pb.ListTrendingItemsResponse(
            items=[item(item_id=i, weight=w) for i, w in found.items],
            first_weight=found.first_weight,
            total_weight=found.total_weight,
            half_life_s=found.half_life_s,
        )

    async def UpsertItems(self, request: pb.UpsertItemsRequest, context: Context) -> pb.UpsertItemsResponse:
        domain = self._domain(request)
        check_count(len(request.items), MAX_ITEMS_A_CALL, field="items")
        items, results = codec.decode_items(request.items, now_ms=self._clock())
        outcomes = await domain.catalogue.upsert(items)
        ids = [item.item_id for item in items]
        return pb.UpsertItemsResponse(results=codec.encode_item_results(ids, outcomes, results))

    async def GetItems(self, request: pb.GetItemsRequest, context: Context) -> pb.GetItemsResponse:
        domain = self._domain(request)
        ids = decode_ids(request.item_ids, field="item_ids", max_count=MAX_ITEMS_A_CALL)
        items, missing = await domain.catalogue.get(ids)
        return pb.GetItemsResponse(items=[encode_item(item) for item in items], missing_item_ids=missing)

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        name = check_domain(request.domain, self._domains)
        size = _bounded("page_size", request.page_size, _DEFAULT_PAGE, _MAX_PAGE)
        after = open_page_token(name, request.page_token)
        items, last, total = await self._domains[name].catalogue.page(after, size)
        return pb.ListItemsResponse(
            items=[encode_item(item) for item in items],
            next_page_token=issue_page_token(name, last),
            total_items=total,
        )

    async def DeleteItems(self, request: pb.DeleteItemsRequest, context: Context) -> pb.DeleteItemsResponse:
        domain = self._domain(request)
        ids = decode_ids(request.item_ids, field="item_ids", max_count=MAX_ITEMS_A_CALL)
        outcomes = await domain.catalogue.delete(ids)
        return pb.DeleteItemsResponse(results=codec.encode_item_results(ids, outcomes, [None] * len(ids)))

    async def WatchItems(
        self, request: pb.WatchItemsRequest, context: Context
    ) -> AsyncIterator[pb.WatchItemsResponse]:
        domain = self._domain(request)
        batches = domain.catalogue.watch(request.cursor, vectors=request.include_embeddings)
        async with aclosing(batches):
            async for batch in batches:
                yield codec.encode_watch(batch)

    async def UpsertUsers(self, request: pb.UpsertUsersRequest, context: Context) -> pb.UpsertUsersResponse:
        domain = self._domain(request)
        check_count(len(request.users), MAX_USERS_A_CALL, field="users")
        users, results = codec.decode_users(request.users)
        statuses = await domain.describe(users)
        return pb.UpsertUsersResponse(results=codec.encode_record_results(statuses, results, field="users"))

    async def UpsertRelations(
        self, request: pb.UpsertRelationsRequest, context: Context
    ) -> pb.UpsertRelationsResponse:
        domain = self._domain(request)
        check_count(len(request.relations), MAX_RELATIONS_A_CALL, field="relations")
        relations, results = codec.decode_relations(request.relations)
        statuses = await domain.relate(relations)
        complete = codec.encode_record_results(statuses, results, field="relations")
        return pb.UpsertRelationsResponse(results=complete)

    async def MergeUsers(self, request: pb.MergeUsersRequest, context: Context) -> pb.MergeUsersResponse:
        domain = self._domain(request)
        source = _user_id(request.from_user_id, "from_user_id")
        target = _user_id(request.into_user_id, "into_user_id")
        if source == target:
            raise InvalidInput.of("into_user_id", "must differ from from_user_id", target)
        return pb.MergeUsersResponse(moved_events=await domain.fold(source, target))

    async def ExportUser(self, request: pb.ExportUserRequest, context: Context) -> pb.ExportUserResponse:
        domain, user_id = self._domain(request), _user_id(request.user_id, "user_id")
        rows = _bounded("page_size", request.page_size, MAX_EXPORT_ROWS, MAX_EXPORT_ROWS)
        after = open_export_token(domain.name, user_id, request.page_token)
        page = await domain.export_person(user_id, after, rows)
        return codec.encode_export(page, issue_export_token(domain.name, user_id, page.after))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserResponse:
        domain = self._domain(request)
        return pb.DeleteUserResponse(existed=await domain.erase(_user_id(request.user_id, "user_id")))

    async def FindErasedUsers(
        self, request: pb.FindErasedUsersRequest, context: Context
    ) -> pb.FindErasedUsersResponse:
        domain = self._domain(request)
        user_ids = decode_ids(request.user_ids, field="user_ids", max_count=MAX_ERASURES_A_CALL)
        found = await domain.erased(user_ids)
        erasures = [pb.Erasure(user_id=user_id, erased_ms=at) for user_id, at in found]
        return pb.FindErasedUsersResponse(erasures=erasures)

    async def ExportEvents(
        self, request: pb.ExportEventsRequest, context: Context
    ) -> AsyncIterator[pb.ExportEventsResponse]:
        domain = self._domain(request)
        span = EventSpan(request.from_ms, request.until_ms, request.include_impressions)
        _check_span(span)
        batches = domain.export_events(span)
        async with aclosing(batches):
            async for events in batches:
                yield pb.ExportEventsResponse(events=[encode_event(event) for event in events])

    async def ExportUsers(
        self, request: pb.ExportUsersRequest, context: Context
    ) -> AsyncIterator[pb.ExportUsersResponse]:
        batches = self._domain(request).exporter.people()
        async with aclosing(batches):
            async for users, relations in batches:
                yield pb.ExportUsersResponse(
                    users=[encode_user(user) for user in users],
                    relations=[encode_relation(relation) for relation in relations],
                )

    def _domain(self, request: Any) -> DomainFeatures:
        return self._domains[check_domain(request.domain, self._domains)]


def _user_id(value: str, field: str) -> str:
    rule = id_rule(value)
    if rule:
        raise InvalidInput.of(field, rule, value)
    return value


def _bounded(field: str, value: int, default: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise InvalidInput.of(field, f"must be 1..{limit}, or 0 for {default}", value)
    return value or default


def _check_span(span: EventSpan) -> None:
    for field, value in (("from_ms", span.from_ms), ("until_ms", span.until_ms)):
        if value < 0:
            raise InvalidInput.of(field, "must be at least 0", value)
    if span.until_ms and span.until_ms <= span.from_ms:
        raise InvalidInput.of("until_ms", f"must be 0 or after from_ms, {span.from_ms}", span.until_ms)
