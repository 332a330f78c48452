"""A small real server for the tests of shared/rpc: FeatureService with behaviour chosen by each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1 import feature_service_pb2_grpc as rpc

from shared.settings import ServerSettings

SERVICE = "warmstart.features.v1.FeatureService"
Answer = Callable[[pb.GetUserContextRequest], Awaitable[pb.GetUserContextResponse]]


async def echo(request: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
    """The person's id back, as the only seen item."""
    return pb.GetUserContextResponse(seen_item_ids=[request.user_id])


async def count_to_three(_: pb.WatchItemsRequest) -> AsyncIterator[pb.WatchItemsResponse]:
    for cursor in ("1", "2", "3"):
        yield pb.WatchItemsResponse(cursor=cursor)


class _Servicer(rpc.FeatureServiceServicer):
    def __init__(self, answer: Answer, watch: Callable[[pb.WatchItemsRequest], AsyncIterator[Any]]) -> None:
        self._answer, self._watch = answer, watch

    async def GetUserContext(self, request: Any, context: Any) -> Any:
        return await self._answer(request)

    async def UpsertItems(self, request: Any, context: Any) -> Any:
        return pb.UpsertItemsResponse()

    async def WatchItems(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._watch(request):
            yield response


@dataclass
class TestedComponent:
    """Counts what is done to it."""

    __test__ = False
    answer: Answer = echo
    watch: Callable[[pb.WatchItemsRequest], AsyncIterator[Any]] = count_to_three
    on_start: Callable[[], Awaitable[None]] | None = None
    steps: list[str] = field(default_factory=list)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        rpc.add_FeatureServiceServicer_to_server(_Servicer(self.answer, self.watch), server)
        return [SERVICE]

    async def start(self) -> None:
        self.steps.append("start")
        if self.on_start:
            await self.on_start()

    async def stop(self) -> None:
        self.steps.append("stop")


def settings(**changes: Any) -> ServerSettings:
    return ServerSettings(**({"drain_s": 0.0, "grace_s": 1.0} | changes))


def stub(channel: grpc.aio.Channel) -> rpc.FeatureServiceAsyncStub:
    return rpc.FeatureServiceStub(channel)
