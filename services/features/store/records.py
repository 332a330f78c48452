"""How values look in the store. Little-endian, fixed header, then text.

event record     action u8 · value f64 · time i64 · len(event_id) u8 · len(item_id) u16 · event_id · item_id
history member   arrival u64, big-endian (members of one time sort by arrival) · event record
log entry        u = user id, e = event record, x = exposure (JSON; only where known)
relation         weight f32 (0 = removed) · time i64, under the field kind · 0x1f · person
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b

import numpy as np

from shared.domain import Action, Event, Exposure, History, Item, Relation

_EVENT = struct.Struct("<BdqBH")
ARRIVAL_BYTES = 8
_RELATION, _RELATION_TIME = struct.Struct("<fq"), struct.Struct("<q")
_DIGEST_BYTES = 12
SEPARATOR = "\x1f"  # ids and kinds hold no control characters


def pack_event(event: Event) -> bytes:
    event_id, item_id = event.event_id.encode(), event.item_id.encode()
    header = _EVENT.pack(event.action, event.value, event.time_ms, len(event_id), len(item_id))
    return header + event_id + item_id


def unpack_event(user_id: str, record: bytes, exposure: bytes | None = None) -> Event:
    action, value, time_ms, id_size, item_size = _EVENT.unpack_from(record)
    item_at = _EVENT.size + id_size
    return Event(
        user_id=user_id,
        item_id=record[item_at : item_at + item_size].decode(),
        action=Action(action),
        value=value,
        time_ms=time_ms,
        event_id=record[_EVENT.size : item_at].decode(),
        exposure=Exposure(**json.loads(exposure)) if exposure else None,
    )


def event_time_ms(record: bytes) -> int:
    return int.from_bytes(record[9:17], "little", signed=True)


def event_action(record: bytes) -> int:
    return record[0]


def pack_exposure(exposure: Exposure | None) -> bytes:
    return b"" if exposure is None else json.dumps(asdict(exposure), separators=(",", ":")).encode()


def event_digest(event_id: str) -> bytes:
    """What the dedupe set keeps of an event id."""
    return blake2b(event_id.encode(), digest_size=_DIGEST_BYTES).digest()


def unpack_history(members: Sequence[bytes]) -> History:
    """Members in order of time and arrival → columns."""
    if not members:
        return History.empty()
    unpack, base = _EVENT.unpack_from, ARRIVAL_BYTES + _EVENT.size
    actions, values, times, id_sizes, item_sizes = zip(
        *[unpack(member, ARRIVAL_BYTES) for member in members], strict=True
    )
    item_ids = tuple(
        member[base + skip : base + skip + size].decode()
        for member, skip, size in zip(members, id_sizes, item_sizes, strict=True)
    )
    return History(
        item_ids, np.array(actions, np.int32), np.array(values, np.float32), np.array(times, np.int64)
    )


def unpack_history_events(user_id: str, members: Iterable[bytes]) -> list[Event]:
    return [unpack_event(user_id, member[ARRIVAL_BYTES:]) for member in members]


def relation_field(kind: str, other_id: str) -> str:
    return f"{kind}{SEPARATOR}{other_id}"


def split_relation_field(field: bytes) -> tuple[str, str]:
    """(kind, person)."""
    kind, _, other_id = field.decode().partition(SEPARATOR)
    return kind, other_id


def pack_relation(relation: Relation) -> bytes:
    return _RELATION.pack(0.0 if relation.removed else relation.weight, relation.time_ms)


def pack_relation_time(time_ms: int) -> bytes:
    """The end of a packed relation: which statement of several it is."""
    return _RELATION_TIME.pack(time_ms)


def unpack_relations(
    user_id: str, forward: Mapping[bytes, bytes], *, removed: bool = False
) -> list[Relation]:
    """A person's relations, strongest first (ties by person and kind). removed: those too, marked so."""
    relations: list[Relation] = []
    for field, packed in forward.items():
        weight, time_ms = _RELATION.unpack(packed)
        if weight > 0.0 or removed:
            kind, other_id = split_relation_field(field)
            relations.append(Relation(user_id, other_id, kind, weight, time_ms, removed=weight <= 0.0))
    return sorted(relations, key=lambda r: (-r.weight, r.other_user_id, r.kind))


def pack_item(item: Item, embedded: str) -> bytes:
    """An item as JSON. `embedded` says which text, in which encoder, its embedding stands for."""
    doc = {
        "t": item.title,
        "d": item.description,
        "c": list(item.categories),
        "a": dict(sorted(item.attributes.items())),
        "v": item.available,
        "m": item.created_ms,
        "x": embedded,
    }
    return json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()


def unpack_item(item_id: str, doc: bytes) -> tuple[Item, str]:
    """(item, what its embedding stands for)."""
    fields = json.loads(doc)
    item = Item(item_id, fields["t"], fields["d"], tuple(fields["c"]), fields["a"], fields["v"], fields["m"])
    return item, fields["x"]


def pack_attributes(attributes: Mapping[str, str]) -> bytes:
    return json.dumps(dict(sorted(attributes.items())), separators=(",", ":"), ensure_ascii=False).encode()


def unpack_attributes(packed: bytes | None) -> dict[str, str]:
    return json.loads(packed) if packed else {}
