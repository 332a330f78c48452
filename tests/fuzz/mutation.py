"""Requests that are nearly valid: a seed with a few edits that know its types, or with its bytes damaged.

Fast rather than minimal: a soak makes some thousand a second. Which edits a case gets follows from its number
alone, so every case can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from warmstart.common.v1 import tensor_pb2

from tests.fuzz.values import BYTES, COUNTS, ENUMS, FLOATS, INTS, LONG_INTS, TEXTS, Known

F = FieldDescriptor
_LONG = {F.TYPE_INT64, F.TYPE_UINT64, F.TYPE_SINT64, F.TYPE_FIXED64, F.TYPE_SFIXED64}
_UNSIGNED = {F.TYPE_UINT32, F.TYPE_UINT64, F.TYPE_FIXED32, F.TYPE_FIXED64}
_FLOATS = {F.TYPE_DOUBLE, F.TYPE_FLOAT}
# A case is rarely larger: large ones cost the servers a thousand small ones.
_USUAL_BYTES = 100_000
_MAX_DEPTH = 4
_RAW_SHARE = 0.2


class Mutator:
    """Makes cases of seeds. known: names that the servers know."""

    def __init__(self, rng: Random, known: Known) -> None:
        self._rng, self._known = rng, known

    def case(self, seeds: Sequence[Message]) -> bytes:
        """A serialised request, made from one of the seeds."""
        rng = self._rng
        seed = rng.choice(seeds)
        message = type(seed)()
        message.CopyFrom(seed)
        edits = rng.choice((0, 1, 1, 1, 1, 2, 2, 3, 5, 9))
        for _ in range(edits):
            self._edit(message, seeds)
        data = message.SerializeToString()
        if len(data) > _USUAL_BYTES and rng.random() < 0.95:
            data = seed.SerializeToString()
        return damaged(rng, data) if rng.random() < _RAW_SHARE else data

    def filled(self, message: Message, depth: int = 0) -> None:
        """Sets about half of the fields of an empty message to something."""
        for field in message.DESCRIPTOR.fields:
            if self._rng.random() < 0.5:
                self._set(message, field, depth)

    def _edit(self, message: Message, seeds: Sequence[Message]) -> None:
        """One edit, somewhere inside."""
        rng = self._rng
        target = self._somewhere(message)
        descriptor = target.DESCRIPTOR
        if not descriptor.fields:
            return
        if descriptor is tensor_pb2.Tensor.DESCRIPTOR and rng.random() < 0.7:
            self._lie(target)
            return
        kind = rng.random()
        if kind < 0.03:
            target.MergeFromString(rng.choice(_UNKNOWN_FIELDS))
        elif kind < 0.06:
            target.Clear()
        elif kind < 0.12:
            self._splice(target, seeds)
        else:
            self._set(target, rng.choice(descriptor.fields), 0)

    def _somewhere(self, message: Message) -> Message:
        """The message or one inside it, deeper ones no less often."""
        here = message
        while self._rng.random() < 0.75:
            inner = [value for field, value in here.ListFields() if _is_message(field)]
            if not inner:
                break
            chosen = self._rng.choice(inner)
            if not isinstance(chosen, Message):
                values = list(chosen.values()) if hasattr(chosen, "values") else chosen
                if not len(values):
                    break
                chosen = self._rng.choice(values)
                if not isinstance(chosen, Message):
                    break
            here = chosen
        return here

    def _splice(self, target: Message, seeds: Sequence[Message]) -> None:
        """What another request holds of the same type."""
        other = self._somewhere(self._rng.choice(seeds))
        if other.DESCRIPTOR is target.DESCRIPTOR:
            target.CopyFrom(other)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if _is_map(field):
            self._set_map(message, field, depth)
        elif field.is_repeated:
            self._set_repeated(message, field, depth)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            if self._rng.random() < 0.25:
                message.ClearField(field.name)
            else:
                inner.SetInParent()
                if depth < _MAX_DEPTH:
                    self.filled(inner, depth + 1)
        else:
            setattr(message, field.name, self._scalar(field))

    def _set_repeated(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        rng, values = self._rng, getattr(message, field.name)
        kind = rng.random()
        if kind < 0.1:
            message.ClearField(field.name)
        elif kind < 0.35 and len(values):
            del values[rng.randrange(len(values))]
        elif kind < 0.5 and len(values):
            self._repeat(message, field, _count(rng))
        elif field.message_type is not None:
            if depth < _MAX_DEPTH:
                self.filled(values.add(), depth + 1)
        elif kind < 0.75 and len(values):
            values[rng.randrange(len(values))] = self._scalar(field)
        else:
            values.append(self._scalar(field))

    def _repeat(self, message: Message, field: FieldDescriptor, count: int) -> None:
        """The elements over and over, up to and beyond limits; ids often different ones."""
        values = getattr(message, field.name)
        first = list(values)
        if field.message_type is not None:
            if sum(v.ByteSize() for v in first) * count > 40 * _USUAL_BYTES * len(first):
                return
            values.extend(first[n % len(first)] for n in range(count - len(first)))
            return
        apart = field.type == F.TYPE_STRING and self._rng.random() < 0.7
        if sum(len(v) for v in first if apart) * count > 40 * _USUAL_BYTES * len(first):
            return
        more = [first[n % len(first)] for n in range(max(0, count - len(first)))]
        values.extend(f"{value}-{n}" for n, value in enumerate(more)) if apart else values.extend(more)

    def _set_map(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        rng, values = self._rng, getattr(message, field.name)
        key = field.message_type.fields_by_name["key"]
        value = field.message_type.fields_by_name["value"]
        if rng.random() < 0.1:
            message.ClearField(field.name)
            return
        if value.message_type is not None:
            if depth < _MAX_DEPTH:
                self.filled(values[self._scalar(key)], depth + 1)
            return
        many = rng.choice((0, 0, 0, 0, 0, 0, 0, 64, 65, 200))
        for n in range(many):
            values[f"k{n}"] = self._scalar(value)
        values[self._scalar(key)] = self._scalar(value)

    def _scalar(self, field: FieldDescriptor) -> Any:
        rng = self._rng
        if field.type == F.TYPE_STRING:
            return self._text(field.name)
        if field.type == F.TYPE_BYTES:
            return rng.choice(BYTES) if rng.random() < 0.7 else rng.randbytes(rng.randrange(64))
        if field.type == F.TYPE_BOOL:
            return rng.random() < 0.5
        if field.type == F.TYPE_ENUM:
            known = [value.number for value in field.enum_type.values]
            return rng.choice(known if rng.random() < 0.5 else ENUMS)
        if field.type in _FLOATS:
            return rng.choice(FLOATS) if rng.random() < 0.7 else rng.uniform(-2.0, 6.0)
        number = rng.choice(LONG_INTS if field.type in _LONG else INTS)
        return abs(number) % (1 << 32) if field.type in _UNSIGNED else number

    def _text(self, name: str) -> str:
        rng = self._rng
        known = self._known.of(name)
        if known and rng.random() < 0.6:
            text = rng.choice(known)
            return text if rng.random() < 0.8 else _cut_and_spliced(rng, text, rng.choice(known))
        if rng.random() < 0.9:
            return rng.choice(TEXTS)
        return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) for _ in range(12))

    def _lie(self, tensor: Message) -> None:
        """A tensor whose type, shape or data are not what they say, or not numbers."""
        rng = self._rng
        match rng.randrange(6):
            case 0:
                tensor.dtype = rng.choice(ENUMS)
            case 1:
                tensor.shape.append(rng.choice(LONG_INTS))
            case 2:
                del tensor.shape[:]
                tensor.shape.extend(rng.choice(LONG_INTS) for _ in range(rng.randrange(6)))
            case 3:
                tensor.data = tensor.data[: rng.randrange(len(tensor.data) + 1)]
            case 4:
                hard = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\x01\0\0\0"))
                data = bytearray(tensor.data)
                place = 4 * rng.randrange(len(data) // 4 + 1)
                data[place : place + 4] = hard
                tensor.data = bytes(data)
            case _:
                count = len(tensor.data) // 4
                tensor.data = rng.choice((b"\xff\xff\x7f\x7f", b"\xff\xff\x7f\xff", b"\0\0\0\0")) * count


def damaged(rng: Random, data: bytes) -> bytes:
    """Serialised bytes that are no message any more, or another one."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_DAMAGES)(rng, changed)
    return bytes(changed)


def _flip(rng: Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _truncate(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _insert(rng: Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.randbytes(rng.randrange(1, 9))


def _lie_about_a_length(rng: Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice((b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))


def _nest(rng: Random, data: bytearray) -> None:
    """Messages in messages, deeper than any schema: as field 1, the commonest."""
    tag = rng.choice((0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x6A))
    inner = bytes(data[:64])
    for _ in range(rng.choice((5, 90, 101, 150, 2000))):
        size = len(inner)
        inner = bytes((tag,)) + _varint(size) + inner
    data[:] = inner


def _no_utf8(rng: Random, data: bytearray) -> None:
    """Where text stands, bytes that are none."""
    letters = [i for i, byte in enumerate(data) if 0x61 <= byte <= 0x7A]
    if letters:
        data[rng.choice(letters)] = rng.choice((0xFF, 0xC0, 0xED, 0xF8, 0x80))


def _repeat_a_part(rng: Random, data: bytearray) -> None:
    if data:
        start = rng.randrange(len(data))
        part = bytes(data[start : start + rng.randrange(1, 64)])
        data[start:start] = part * rng.choice((1, 2, 50))


_DAMAGES: tuple[Callable[[Random, bytearray], None], ...] = (
    _flip, _flip, _truncate, _insert, _lie_about_a_length, _nest, _no_utf8, _repeat_a_part,
)  # fmt: skip
_UNKNOWN_FIELDS = (
    b"\xc2\x3e\x05hello",
    b"\xc0\x3e\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xc3\x3e\xc4\x3e",  # a group, which proto3 has no longer
    b"\xf8\xff\xff\xff\x0f\x01",  # the highest field number
)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _cut_and_spliced(rng: Random, text: str, other: str) -> str:
    place = rng.randrange(len(text) + 1)
    return rng.choice((text[:place], text[:place] + other[place:], text + other, text.upper(), text[1:]))


def _count(rng: Random) -> int:
    """Small ones mostly."""
    return COUNTS[min(int(rng.expovariate(0.45)), len(COUNTS) - 1)]


def _is_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None


def _is_map(field: FieldDescriptor) -> bool:
    kind: Descriptor | None = field.message_type
    return kind is not None and kind.GetOptions().map_entry
