"""The item stream over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub

from shared.inference.follower import FeedBatch
from shared.items import NO_CONTENT, Content
from shared.rpc.channels import connect, stream
from shared.rpc.codec import decode_floats
from shared.tls import TlsSource


class FeatureItemFeed:
    """`WatchItems` of the feature service behind `target`; satisfies `ItemFeed`. Close it at the end."""

    def __init__(self, target: str, tls: TlsSource | None = None) -> None:
        self._channel = connect(target, tls=tls)
        self._watch = FeatureServiceStub(self._channel).WatchItems

    async def watch(self, domain: str, cursor: str) -> AsyncGenerator[FeedBatch, None]:
        request = pb.WatchItemsRequest(domain=domain, cursor=cursor, include_embeddings=True)
        async with aclosing(stream(self._watch, request)) as responses:
            async for response in responses:
                changes = [_decode(c, f"changes[{i}]") for i, c in enumerate(response.changes)]
                yield FeedBatch(changes, response.cursor, response.snapshot_complete)

    async def close(self) -> None:
        await self._channel.close()


def _decode(change: pb.ItemChange, field: str) -> tuple[str, Content | None]:
    if change.WhichOneof("change") == "deleted_item_id":
        return change.deleted_item_id, None
    if not change.HasField("content_embedding"):  # the item has no text
        return change.upserted.item_id, NO_CONTENT
    content = decode_floats(change.content_embedding, field=f"{field}.content_embedding", shape=(None,))
    return change.upserted.item_id, content.astype(np.float16)
