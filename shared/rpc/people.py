"""Whom a request names."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message


def people_of(message: object) -> Iterator[str]:
    """Every id of a person in it, at any depth: fields named `user_id`, and those that end so."""
    if not isinstance(message, Message):
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                continue  # attributes: names and words
            for inner in value if field.is_repeated else (value,):
                yield from people_of(inner)
        elif field.type == field.TYPE_STRING and field.name.removesuffix("s").endswith("user_id"):
            yield from value if field.is_repeated else (value,)
