"""A feature service that only streams items, for tests of those who follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from warmstart.common.v1 import item_pb2
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1 import feature_service_pb2_grpc as rpc

from shared.domain import FloatArray
from shared.errors import StaleCursor
from shared.rpc.codec import encode_tensor
from shared.trends import HALF_LIFE_S

SERVICE = "warmstart.features.v1.FeatureService"


class ItemStream(rpc.FeatureServiceServicer):
    """Holds items and a log of changes; also the component that serves it. Cursors count changes."""

    def __init__(self, items: Mapping[str, FloatArray] | None = None) -> None:
        self.items = dict(items or {})
        self.log: list[pb.ItemChange] = []
        self.trending: dict[str, float] = {}  # item → decayed events, the most first
        self.more_trending = 0.0  # decayed events on items that are not told
        self.half_life_s = float(HALF_LIFE_S)
        self.oldest = 0  # the first change that the log still holds
        self.watchers = 0
        self._changed = asyncio.Condition()
        self._cut = 0

    async def upsert(self, items: Mapping[str, FloatArray]) -> None:
        self.items.update(items)
        await self._note([_upserted(i, c) for i, c in items.items()])

    async def delete(self, *item_ids: str) -> None:
        for item_id in item_ids:
            self.items.pop(item_id, None)
        await self._note([pb.ItemChange(deleted_item_id=i) for i in item_ids])

    async def cut(self, *, forget: bool) -> None:
        """Ends every stream; with `forget` the log no longer reaches back to before now."""
        async with self._changed:
            self._cut += 1
            if forget:
                self.log += [pb.ItemChange(deleted_item_id="nothing")]
                self.oldest = len(self.log)
            self._changed.notify_all()

    async def ListTrendingItems(self, request: Any, context: Any) -> pb.ListTrendingItemsResponse:
        first = next(iter(self.trending.values()), 0.0)
        item = pb.ListTrendingItemsResponse.TrendingItem
        listed = list(self.trending.items())[: request.limit]
        return pb.ListTrendingItemsResponse(
            items=[item(item_id=item_id, weight=weight / first) for item_id, weight in listed],
            first_weight=first,
            half_life_s=self.half_life_s,
            total_weight=sum(self.trending.values()) + self.more_trending,
        )

    async def WatchItems(self, request: Any, context: Any) -> AsyncIterator[pb.WatchItemsResponse]:
        at = int(request.cursor) if request.cursor else len(self.log)
        if at < self.oldest:
            raise StaleCursor(f"cursor must be at least {self.oldest}, got {at}")
        self.watchers += 1
        cut = self._cut
        try:
            if not request.cursor:
                for response in self._snapshot(at):
                    yield response
            while True:
                async with self._changed:
                    while len(self.log) <= at and self._cut == cut:
                        await self._changed.wait()
                if self._cut != cut:
                    return
                changes, at = self.log[at:], len(self.log)
                yield pb.WatchItemsResponse(changes=changes, cursor=str(at))
        finally:
            self.watchers -= 1

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        rpc.add_FeatureServiceServicer_to_server(self, server)
        return [SERVICE]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def _snapshot(self, at: int) -> list[pb.WatchItemsResponse]:
        changes = [_upserted(i, c) for i, c in self.items.items()]
        parts = [changes[n : n + 50] for n in range(0, len(changes), 50)]
        return [
            *(pb.WatchItemsResponse(changes=part) for part in parts),
            pb.WatchItemsResponse(cursor=str(at), snapshot_complete=True),
        ]

    async def _note(self, changes: list[pb.ItemChange]) -> None:
        async with self._changed:
            self.log += changes
            self._changed.notify_all()


def _upserted(item_id: str, content: FloatArray) -> pb.ItemChange:
    return pb.ItemChange(upserted=item_pb2.Item(item_id=item_id), content_embedding=encode_tensor(content))
