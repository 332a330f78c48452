"""Any message type as a hypothesis strategy, built from its descriptor: found failures shrink."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from tests.fuzz.values import BYTES, ENUMS, FLOATS, INTS, LONG_INTS, TEXTS

F = FieldDescriptor
_LONG = {F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64}
_MAX_ELEMENTS = 3
_MAX_DEPTH = 5
# A message of text longer than this is mutation.py's to make: hypothesis keeps every choice.
_TEXTS = tuple(text for text in TEXTS if len(text) <= 1100)


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of the type: hard values in every field, unknown enums, open oneofs, tensors that lie."""
    return _messages(kind.DESCRIPTOR, 0)


def near(seeds: Sequence[Message]) -> st.SearchStrategy[Message]:
    """A seed, into which part of any other message of its type was merged: most reach deep code."""
    return st.tuples(st.sampled_from(list(seeds)), messages(type(seeds[0])), st.data()).map(_merged)


def _merged(parts: tuple[Message, Message, Any]) -> Message:
    seed, other, data = parts
    message = type(seed)()
    message.CopyFrom(seed)
    names = [field.name for field, _ in other.ListFields()]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=2)) if names else []
    for name in set(names) - set(chosen):
        other.ClearField(name)
    for name in chosen:
        message.ClearField(name)
    message.MergeFrom(other)
    return message


@cache
def _messages(descriptor: Descriptor, depth: int) -> st.SearchStrategy[Message]:
    fields = [f for f in descriptor.fields if depth < _MAX_DEPTH or f.message_type is None]
    parts = {field.name: _field(field, depth) for field in fields}
    return st.fixed_dictionaries({}, optional=parts).map(lambda values: _built(descriptor, values))


def _built(descriptor: Descriptor, values: dict[str, Any]) -> Message:
    message = GetMessageClass(descriptor)()
    for name, value in values.items():
        field = descriptor.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            target = getattr(message, name)
            for key, inner in value.items():
                if isinstance(inner, Message):
                    target[key].CopyFrom(inner)
                else:
                    target[key] = inner
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = (kind.fields_by_name[name] for name in ("key", "value"))
        return st.dictionaries(_single(key, depth), _single(value, depth), max_size=_MAX_ELEMENTS)
    single = _single(field, depth)
    return st.lists(single, max_size=_MAX_ELEMENTS) if field.is_repeated else single


def _single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _messages(field.message_type, depth + 1)
    match field.type:
        case F.TYPE_STRING:
            return st.sampled_from(_TEXTS) | st.text(max_size=20)
        case F.TYPE_BYTES:
            return st.sampled_from(BYTES) | st.binary(max_size=64)
        case F.TYPE_BOOL:
            return st.booleans()
        case F.TYPE_ENUM:
            return st.sampled_from(ENUMS)
        case F.TYPE_DOUBLE | F.TYPE_FLOAT:
            return st.sampled_from(FLOATS) | st.floats(width=32)
        case F.TYPE_UINT32 | F.TYPE_UINT64 | F.TYPE_FIXED32 | F.TYPE_FIXED64:
            return st.integers(0, (1 << 32) - 1)
    return st.sampled_from(LONG_INTS if field.type in _LONG else INTS)
