"""A caller of the feature service, with short names for what tests ask often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from warmstart.common.v1 import event_pb2, item_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1 import feature_service_pb2_grpc as pb_grpc

from shared.rpc.channels import call, connect, stream

TIMEOUT_S = 20.0
NOW_MS = 1_700_000_000_000
RECORDED, DUPLICATE, REJECTED = 1, 2, 3


def event(user_id: str, item_id: str, action: int = 4, **fields: Any) -> event_pb2.Event:
    """A like (4) by default, at NOW_MS."""
    fields.setdefault("time_ms", NOW_MS)
    return event_pb2.Event(
        user_id=user_id, item_id=item_id, action=event_pb2.Action.ValueType(action), **fields
    )


@dataclass(frozen=True)
class Features:
    """One server's stub and the domain that the test works in."""

    stub: pb_grpc.FeatureServiceAsyncStub
    domain: str
    address: str

    @classmethod
    @asynccontextmanager
    async def connected(cls, address: str, domain: str) -> AsyncIterator[Features]:
        async with connect(address) as channel:
            yield cls(pb_grpc.FeatureServiceStub(channel), domain, address)

    async def ask(self, name: str, **fields: Any) -> Any:
        """`ask("GetItems", item_ids=[…])` calls GetItems in the test's domain."""
        rpc = getattr(self.stub, name)
        request = getattr(pb, f"{name}Request")(**{"domain": self.domain, **fields})
        return await call(rpc, request, timeout_s=TIMEOUT_S)

    def watch(self, **fields: Any) -> AsyncIterator[pb.WatchItemsResponse]:
        request = pb.WatchItemsRequest(**{"domain": self.domain, **fields})
        return stream(self.stub.WatchItems, request)

    async def record(self, *events: event_pb2.Event) -> list[int]:
        """Statuses."""
        response = await self.ask("RecordEvents", events=events)
        return [result.status for result in response.results]

    async def context(self, user_id: str, **fields: Any) -> pb.GetUserContextResponse:
        response: pb.GetUserContextResponse = await self.ask("GetUserContext", user_id=user_id, **fields)
        return response

    async def history(self, user_id: str) -> list[str]:
        return list((await self.context(user_id)).context.history.item_ids)

    async def put(self, *items: item_pb2.Item) -> list[int]:
        response = await self.ask("UpsertItems", items=items)
        return [result.status for result in response.results]

    async def relate(self, *relations: user_pb2.Relation) -> list[bool]:
        response = await self.ask("UpsertRelations", relations=relations)
        return [result.stored for result in response.results]

    async def exported(self, **fields: Any) -> list[event_pb2.Event]:
        request = pb.ExportEventsRequest(**{"domain": self.domain, **fields})
        return [
            event async for part in stream(self.stub.ExportEvents, request, timeout_s=TIMEOUT_S)
            for event in part.events
        ]  # fmt: skip

    async def exported_users(self) -> tuple[list[user_pb2.User], list[user_pb2.Relation]]:
        users: list[user_pb2.User] = []
        relations: list[user_pb2.Relation] = []
        request = pb.ExportUsersRequest(domain=self.domain)
        async for part in stream(self.stub.ExportUsers, request, timeout_s=TIMEOUT_S):
            users += part.users
            relations += part.relations
        return users, relations


async def until(
    condition: Callable[[], Awaitable[bool]], *, within_s: float = 10.0, says: str = "condition"
) -> None:
    """Asks again and again; AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"{says} did not hold within {within_s} s"
        await asyncio.sleep(0.02)


def item(item_id: str, title: str = "", categories: Sequence[str] = (), **fields: Any) -> item_pb2.Item:
    return item_pb2.Item(item_id=item_id, title=title, categories=categories, **fields)


def relation(user_id: str, other_user_id: str, **fields: Any) -> user_pb2.Relation:
    return user_pb2.Relation(user_id=user_id, other_user_id=other_user_id, **fields)
