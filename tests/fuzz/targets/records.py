"""What the store holds: packed and unpacked again, it is what it was."""

from __future__ import annotations

from warmstart.common.v1 import event_pb2, item_pb2, user_pb2

from services.features.store import records
from shared.rpc import codec
from tests.fuzz.targets.base import NOW_MS, Target, Wrong
from tests.fuzz.targets.messages import _mutation, _parts, _reader, same


def _event(message: event_pb2.Event) -> None:
    event = codec.decode_event(message, field="event", now_ms=NOW_MS)
    packed, exposure = records.pack_event(event), records.pack_exposure(event.exposure)
    _require(event, records.unpack_event(event.user_id, packed, exposure))
    if (records.event_time_ms(packed), records.event_action(packed)) != (event.time_ms, event.action):
        raise Wrong("time or action are read otherwise")
    history = records.unpack_history([bytes(8) + packed])
    if history.item_ids != (event.item_id,) or history.time_ms.tolist() != [event.time_ms]:
        raise Wrong("a history says otherwise")


def _item(message: item_pb2.Item) -> None:
    item = codec.decode_item(message, field="item")
    _require((item, "embedded"), records.unpack_item(item.item_id, records.pack_item(item, "embedded")))


def _user(message: user_pb2.User) -> None:
    user = codec.decode_user(message, field="user")
    _require(user.attributes, records.unpack_attributes(records.pack_attributes(user.attributes)))


def _relation(message: user_pb2.Relation) -> None:
    relation = codec.decode_relation(message, field="relation")
    packed = records.pack_relation(relation)
    field = records.relation_field(relation.kind, relation.other_user_id).encode()
    _require(
        [] if relation.removed else [relation], records.unpack_relations(relation.user_id, {field: packed})
    )


def _require(before: object, after: object) -> None:
    if not same(before, after):
        raise Wrong(f"packed {before!r}, unpacked {after!r}")


_READERS = (
    (event_pb2.Event, _event), (item_pb2.Item, _item), (user_pb2.User, _user), (user_pb2.Relation, _relation)
)  # fmt: skip


def _seeds() -> list[bytes]:
    return [
        bytes((number,)) + message.SerializeToString()
        for number, (kind, _) in enumerate(_READERS)
        for message in _parts()[kind.DESCRIPTOR.full_name][:4]
    ]


TARGETS = (Target("store-records", _reader(_READERS), _seeds, _mutation(_READERS), max_bytes=16_000),)
