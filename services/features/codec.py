"""Feature messages ↔ domain types; what several services share is in `shared.rpc.codec`."""

from __future__ import annotations

from collections.abc import Sequence

from warmstart.common.v1 import event_pb2, item_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as pb

from services.features.catalogue import ItemOutcome, WatchBatch, WatchedItem
from services.features.extraction.extractor import ExtractedUser
from services.features.store.events import AppendStatus
from services.features.store.people import PersonStatus
from services.features.store.person_export import ExportPage
from shared.domain import Event, Item, Relation, User
from shared.errors import InvalidInput, violation
from shared.limits import MAX_FUTURE_MS
from shared.rpc.codec import (
    decode_event,
    decode_item,
    decode_relation,
    decode_user,
    encode_context,
    encode_event,
    encode_item,
    encode_relation,
    encode_tensor,
    encode_user,
)

_EVENT_STATUS = {
    AppendStatus.RECORDED: pb.EVENT_STATUS_RECORDED,
    AppendStatus.AGAIN: pb.EVENT_STATUS_RECORDED,
    AppendStatus.DUPLICATE: pb.EVENT_STATUS_DUPLICATE,
    AppendStatus.ERASED_PERSON: pb.EVENT_STATUS_REJECTED,
    AppendStatus.TOO_OLD: pb.EVENT_STATUS_REJECTED,
    AppendStatus.MERGED_PERSON: pb.EVENT_STATUS_REJECTED,
}
_REFUSED = {
    AppendStatus.ERASED_PERSON: "must be after the person's erasure",
    AppendStatus.TOO_OLD: "must be within the days that events are kept",
    AppendStatus.MERGED_PERSON: "must be after the person was merged into another",
}
_ITEM_STATUS = {
    ItemOutcome.CREATED: item_pb2.ITEM_STATUS_CREATED,
    ItemOutcome.UPDATED: item_pb2.ITEM_STATUS_UPDATED,
    ItemOutcome.UNCHANGED: item_pb2.ITEM_STATUS_UNCHANGED,
    ItemOutcome.DELETED: item_pb2.ITEM_STATUS_DELETED,
    ItemOutcome.NOT_FOUND: item_pb2.ITEM_STATUS_NOT_FOUND,
}


def decode_events(
    messages: Sequence[event_pb2.Event], *, now_ms: int
) -> tuple[list[Event], list[pb.EventResult | None]]:
    """(good events in order, one result a message: REJECTED, or None where the event is good)."""
    events: list[Event] = []
    results: list[pb.EventResult | None] = []
    for place, message in enumerate(messages):
        try:
            events.append(decode_event(message, field=f"events[{place}]", now_ms=now_ms))
            results.append(None)
        except InvalidInput as error:
            results.append(
                pb.EventResult(event_id=message.event_id, status=pb.EVENT_STATUS_REJECTED, reason=str(error))
            )
    return events, results


def encode_event_results(
    events: Sequence[Event], statuses: Sequence[AppendStatus], results: Sequence[pb.EventResult | None]
) -> list[pb.EventResult]:
    """The rejected ones with what became of the others, in the order of the request."""
    stored = iter(zip(events, statuses, strict=True))
    complete: list[pb.EventResult] = []
    for place, result in enumerate(results):
        if result is None:
            event, status = next(stored)
            result = pb.EventResult(event_id=event.event_id, status=_EVENT_STATUS[status])
            if status in _REFUSED:
                result.reason = violation(
                    f"events[{place}].time_ms", _REFUSED[status], event.time_ms
                ).description
        complete.append(result)
    return complete


def encode_extracted(user: ExtractedUser) -> pb.GetUserContextResponse:
    return pb.GetUserContextResponse(
        context=encode_context(user.context),
        seen_item_ids=user.seen_item_ids,
        neighbour_likes=[
            user_pb2.NeighbourLike(item_id=n.item_id, weight=n.weight, neighbours=n.neighbours)
            for n in user.neighbour_likes
        ],
    )


def decode_items(
    messages: Sequence[item_pb2.Item], *, now_ms: int
) -> tuple[list[Item], list[item_pb2.ItemResult | None]]:
    """(good items in order, one result a message: REJECTED, or None where the item is good).

    An item from the future is refused: it would be the freshest of all until then.
    """
    items: list[Item] = []
    results: list[item_pb2.ItemResult | None] = []
    for place, message in enumerate(messages):
        try:
            item = decode_item(message, field=f"items[{place}]")
            if item.created_ms > now_ms + MAX_FUTURE_MS:
                ahead = f"at most {MAX_FUTURE_MS // 60_000} minutes ahead"
                rule = f"must be 0 (now) or milliseconds since 1970, {ahead}"
                raise InvalidInput.of(f"items[{place}].created_ms", rule, item.created_ms)
            items.append(item)
            results.append(None)
        except InvalidInput as error:
            rejected = item_pb2.ITEM_STATUS_REJECTED
            results.append(item_pb2.ItemResult(item_id=message.item_id, status=rejected, reason=str(error)))
    return items, results


def encode_item_results(
    item_ids: Sequence[str],
    outcomes: Sequence[ItemOutcome],
    results: Sequence[item_pb2.ItemResult | None],
) -> list[item_pb2.ItemResult]:
    done = iter(zip(item_ids, outcomes, strict=True))
    complete: list[item_pb2.ItemResult] = []
    for result in results:
        if result is None:
            item_id, outcome = next(done)
            result = item_pb2.ItemResult(item_id=item_id, status=_ITEM_STATUS[outcome])
        complete.append(result)
    return complete


def encode_watch(batch: WatchBatch) -> pb.WatchItemsResponse:
    return pb.WatchItemsResponse(
        changes=[_encode_change(change) for change in batch.changes],
        cursor=batch.cursor,
        snapshot_complete=batch.snapshot_complete,
    )


def _encode_change(change: WatchedItem) -> pb.ItemChange:
    if change.item is None:
        return pb.ItemChange(deleted_item_id=change.item_id)
    message = pb.ItemChange(upserted=encode_item(change.item))
    if change.vector is not None:
        message.content_embedding.CopyFrom(encode_tensor(change.vector))
    return message


def decode_users(
    messages: Sequence[user_pb2.User],
) -> tuple[list[User], list[pb.RecordResult | None]]:
    users: list[User] = []
    results: list[pb.RecordResult | None] = []
    for place, message in enumerate(messages):
        try:
            users.append(decode_user(message, field=f"users[{place}]"))
            results.append(None)
        except InvalidInput as error:
            results.append(pb.RecordResult(stored=False, reason=str(error)))
    return users, results


def decode_relations(
    messages: Sequence[user_pb2.Relation],
) -> tuple[list[Relation], list[pb.RecordResult | None]]:
    relations: list[Relation] = []
    results: list[pb.RecordResult | None] = []
    for place, message in enumerate(messages):
        try:
            relations.append(decode_relation(message, field=f"relations[{place}]"))
            results.append(None)
        except InvalidInput as error:
            results.append(pb.RecordResult(stored=False, reason=str(error)))
    return relations, results


def encode_record_results(
    statuses: Sequence[PersonStatus], results: Sequence[pb.RecordResult | None], *, field: str
) -> list[pb.RecordResult]:
    """field: `users` or `relations`, for the reasons."""
    done = iter(statuses)
    return [result or _record_result(next(done), f"{field}[{place}]") for place, result in enumerate(results)]


def _record_result(status: PersonStatus, field: str) -> pb.RecordResult:
    if status is PersonStatus.STORED:
        return pb.RecordResult(stored=True)
    if status is PersonStatus.TOO_MANY:
        return pb.RecordResult(reason=f"{field}.user_id has as many relations as are kept of one person")
    return pb.RecordResult(reason=f"{field} is of an erased person and not dated after the erasure")


def encode_export(page: ExportPage, next_page_token: str) -> pb.ExportUserResponse:
    return pb.ExportUserResponse(
        user=encode_user(page.user),
        events=[encode_event(event) for event in page.events],
        relations=[encode_relation(relation) for relation in page.relations],
        seen_item_ids=[item_id for item_id, _ in page.seen],
        seen_time_ms=[time_ms for _, time_ms in page.seen],
        relations_from_others=[encode_relation(relation) for relation in page.relations_from_others],
        total_events=page.total_events,
        recognised_events=page.recognised_events,
        merged_people=page.merged_people,
        next_page_token=next_page_token,
    )
