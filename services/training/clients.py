"""Copies what training reads out of the feature service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub

from services.training.snapshot import CountProgress, SnapshotWriter
from shared.domain import FloatArray, Item
from shared.errors import Unavailable
from shared.limits import MAX_ERASURES_A_CALL
from shared.rpc.channels import call, connect, stream
from shared.rpc.codec import decode_event, decode_floats, decode_item, decode_relation, decode_user
from shared.tls import TlsSource

if TYPE_CHECKING:
    from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceAsyncStub

_MAX_MESSAGE_BYTES = 64 << 20
_FIND_TIMEOUT_S = 30.0


async def snapshot_of_service(
    target: str, domain: str, writer: SnapshotWriter, progress: CountProgress, *, tls: TlsSource | None
) -> None:
    """Streams catalogue (with embeddings), people, relations and the event log into a snapshot.

    target: the feature service, "host:port"; tls: None = without. Raises Unavailable where it cannot be
    reached.
    """
    channel = connect(target, tls=tls, max_message_bytes=_MAX_MESSAGE_BYTES)
    try:
        service = FeatureServiceStub(channel)
        copy = _Copy(service, domain, writer, progress)
        await copy.items()
        await copy.users()
        await copy.events()
    finally:
        await channel.close()


async def find_erased(
    target: str, domain: str, user_ids: Sequence[str], *, tls: TlsSource | None
) -> dict[str, int]:
    """Of these people, those that have been erased, and when (ms). Raises Unavailable."""
    found: dict[str, int] = {}
    async with connect(target, tls=tls) as channel:
        service = FeatureServiceStub(channel)
        for at in range(0, len(user_ids), MAX_ERASURES_A_CALL):
            request = pb.FindErasedUsersRequest(
                domain=domain, user_ids=user_ids[at : at + MAX_ERASURES_A_CALL]
            )
            response = await call(
                service.FindErasedUsers, request, timeout_s=_FIND_TIMEOUT_S, idempotent=True
            )
            found.update((erasure.user_id, erasure.erased_ms) for erasure in response.erasures)
    return found


class _Copy:
    """One copy under way."""

    def __init__(
        self, service: FeatureServiceAsyncStub, domain: str, writer: SnapshotWriter, progress: CountProgress
    ) -> None:
        self._service = service
        self._domain = domain
        self._writer = writer
        self._progress = progress
        self._done = 0

    async def items(self) -> None:
        """The catalogue as it is now; changes that come later belong to the next training."""
        request = pb.WatchItemsRequest(domain=self._domain, include_embeddings=True)
        async with aclosing(stream(self._service.WatchItems, request)) as responses:
            async for response in responses:
                items, embeddings = _decode_changes(response)
                self._writer.add_items(items, embeddings)
                self._tell(len(items))
                if response.snapshot_complete:
                    return
        raise Unavailable("the feature service ended the item stream before the catalogue was complete")

    async def users(self) -> None:
        request = pb.ExportUsersRequest(domain=self._domain)
        async with aclosing(stream(self._service.ExportUsers, request)) as responses:
            async for response in responses:
                users = [decode_user(u, field=f"users[{n}]") for n, u in enumerate(response.users)]
                relations = [
                    decode_relation(r, field=f"relations[{n}]") for n, r in enumerate(response.relations)
                ]
                self._writer.add_users(users)
                self._writer.add_relations(relations)
                self._tell(len(users) + len(relations))

    async def events(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        request = pb.ExportEventsRequest(domain=self._domain)
        async with aclosing(stream(self._service.ExportEvents, request)) as responses:
            async for response in responses:
                events = [
                    decode_event(e, field=f"events[{n}]", now_ms=now_ms)
                    for n, e in enumerate(response.events)
                ]
                self._writer.add_events(events)
                self._tell(len(events))

    def _tell(self, rows: int) -> None:
        self._done += rows
        self._progress(self._done, 0)


def _decode_changes(response: pb.WatchItemsResponse) -> tuple[list[Item], list[FloatArray | None]]:
    """Items of one message with their embeddings; deletions in a snapshot say nothing."""
    items: list[Item] = []
    embeddings: list[FloatArray | None] = []
    for number, change in enumerate(response.changes):
        if change.WhichOneof("change") != "upserted":
            continue
        items.append(decode_item(change.upserted, field=f"changes[{number}].upserted"))
        has_text = change.HasField("content_embedding")
        field = f"changes[{number}].content_embedding"
        embeddings.append(decode_floats(change.content_embedding, field=field) if has_text else None)
    return items, embeddings
