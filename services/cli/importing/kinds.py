"""How each kind of row is sent, and what the gateway's answers mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from warmstart.common.v1 import item_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as recommendation
from warmstart.gateway.v1 import user_service_pb2 as user

from services.cli.clients import BATCH_TIMEOUT_S, GatewayClient
from services.cli.importing.counts import DUPLICATE, RECORDED, REJECTED, UPDATED
from shared.domain import Event, Item, Relation, User

T = TypeVar("T")

_FEEDBACK = {
    recommendation.FEEDBACK_STATUS_RECORDED: RECORDED,
    recommendation.FEEDBACK_STATUS_DUPLICATE: DUPLICATE,
    recommendation.FEEDBACK_STATUS_REJECTED: REJECTED,
}
_ITEMS = {
    item_pb2.ITEM_STATUS_CREATED: RECORDED,
    item_pb2.ITEM_STATUS_UPDATED: UPDATED,
    item_pb2.ITEM_STATUS_UNCHANGED: DUPLICATE,
    item_pb2.ITEM_STATUS_REJECTED: REJECTED,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one row; `reason` of a rejected one."""

    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`lane_key`: rows with the same key keep their order. `size_of`: bytes on the wire, about."""

    name: str
    batch_rows: int
    lane_key: Callable[[T], str]
    size_of: Callable[[T], int]
    send: Callable[[GatewayClient, Sequence[T]], Awaitable[Sequence[Answer]]]


async def _send_events(gateway: GatewayClient, events: Sequence[Event]) -> Sequence[Answer]:
    results = await gateway.record(events, timeout_s=BATCH_TIMEOUT_S)
    return [Answer(_FEEDBACK[r.status], r.reason) for r in results]


async def _send_items(gateway: GatewayClient, items: Sequence[Item]) -> Sequence[Answer]:
    results = await gateway.upsert_items(items, timeout_s=BATCH_TIMEOUT_S)
    return [Answer(_ITEMS[r.status], r.reason) for r in results]


async def _send_users(gateway: GatewayClient, users: Sequence[User]) -> Sequence[Answer]:
    return _stored(await gateway.upsert_users(users, timeout_s=BATCH_TIMEOUT_S))


async def _send_relations(gateway: GatewayClient, relations: Sequence[Relation]) -> Sequence[Answer]:
    return _stored(await gateway.upsert_relations(relations, timeout_s=BATCH_TIMEOUT_S))


def _stored(results: Sequence[user.RecordResult]) -> Sequence[Answer]:
    return [Answer(RECORDED) if r.stored else Answer(REJECTED, r.reason) for r in results]


def _item_bytes(item: Item) -> int:
    attributes = sum(len(k) + len(v) for k, v in item.attributes.items())
    return 64 + 3 * (len(item.title) + len(item.description) + sum(map(len, item.categories)) + attributes)


# In the order in which they are sent: events come last, when their items and people are known.
ITEMS: Kind[Item] = Kind("items", 200, lambda i: i.item_id, _item_bytes, _send_items)
USERS: Kind[User] = Kind(
    "users",
    500,
    lambda u: u.user_id,
    lambda u: 64 + 3 * sum(len(k) + len(v) for k, v in u.attributes.items()),
    _send_users,
)
RELATIONS: Kind[Relation] = Kind("relations", 1000, lambda r: r.user_id, lambda r: 128, _send_relations)
EVENTS: Kind[Event] = Kind("events", 500, lambda e: e.user_id, lambda e: 192, _send_events)
