"""Items and filters on them."""

from __future__ import annotations

from collections.abc import Sequence

from warmstart.common.v1 import item_pb2 as pb

from shared.domain import AttributeCondition, Item, ItemFilter
from shared.errors import Violation, violation
from shared.limits import (
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_ATTRIBUTES,
    MAX_CATEGORIES,
    MAX_CATEGORY_BYTES,
    MAX_DESCRIPTION_BYTES,
    MAX_TITLE_BYTES,
    text_rule,
)
from shared.rpc.codec.checks import (
    check_count,
    note_attributes,
    note_id,
    note_text,
    note_time,
    path,
    raise_broken,
)


def decode_item(message: pb.Item, *, field: str) -> Item:
    """One item; `available` unset means true. Descriptions may hold tabs and line ends."""
    broken: list[Violation] = []
    note_id(broken, field, "item_id", message.item_id)
    note_text(broken, field, "title", message.title, MAX_TITLE_BYTES)
    size = len(message.description.encode())
    if size > MAX_DESCRIPTION_BYTES:
        rule = f"must be at most {MAX_DESCRIPTION_BYTES} bytes"
        broken.append(violation(path(field, "description"), rule, message.description))
    categories = _note_categories(broken, field, "categories", message.categories)
    attributes = note_attributes(broken, field, message.attributes)
    note_time(broken, field, "created_ms", message.created_ms)
    raise_broken(broken)
    return Item(
        message.item_id,
        message.title,
        message.description,
        categories,
        attributes,
        message.available if message.HasField("available") else True,
        message.created_ms,
    )


def encode_item(item: Item) -> pb.Item:
    return pb.Item(
        item_id=item.item_id,
        title=item.title,
        description=item.description,
        categories=item.categories,
        attributes=dict(item.attributes),
        available=item.available,
        created_ms=item.created_ms,
    )


def decode_filter(message: pb.ItemFilter, *, field: str) -> ItemFilter:
    """A filter; an unset message admits everything."""
    broken: list[Violation] = []
    note_time(broken, field, "created_from_ms", message.created_from_ms)
    check_count(len(message.attributes), MAX_ATTRIBUTES, field=path(field, "attributes"))
    for name in ("any_categories", "all_categories", "no_categories"):
        check_count(len(getattr(message, name)), MAX_CATEGORIES, field=path(field, name))
    for i, condition in enumerate(message.attributes):
        _note_condition(broken, path(field, f"attributes[{i}]"), condition)
    decoded = ItemFilter(
        frozenset(_note_categories(broken, field, "any_categories", message.any_categories)),
        frozenset(_note_categories(broken, field, "all_categories", message.all_categories)),
        frozenset(_note_categories(broken, field, "no_categories", message.no_categories)),
        tuple(AttributeCondition(c.name, frozenset(c.values), c.negate) for c in message.attributes),
        message.created_from_ms,
    )
    raise_broken(broken)
    return decoded


def encode_filter(wanted: ItemFilter) -> pb.ItemFilter:
    return pb.ItemFilter(
        any_categories=sorted(wanted.any_categories),
        all_categories=sorted(wanted.all_categories),
        no_categories=sorted(wanted.no_categories),
        attributes=[
            pb.AttributeCondition(name=c.name, values=sorted(c.values), negate=c.negate)
            for c in wanted.attributes
        ],
        created_from_ms=wanted.created_from_ms,
    )


def _note_categories(
    broken: list[Violation], field: str, name: str, values: Sequence[str]
) -> tuple[str, ...]:
    if len(values) > MAX_CATEGORIES:
        broken.append(violation(path(field, name), f"must hold at most {MAX_CATEGORIES}", len(values)))
    for i, value in enumerate(values):
        rule = text_rule(value, MAX_CATEGORY_BYTES, min_bytes=1)
        if rule:
            broken.append(violation(path(field, f"{name}[{i}]"), rule, value))
    return tuple(values)


def _note_condition(broken: list[Violation], field: str, condition: pb.AttributeCondition) -> None:
    rule = text_rule(condition.name, MAX_ATTRIBUTE_NAME_BYTES, min_bytes=1)
    if rule:
        broken.append(violation(path(field, "name"), rule, condition.name))
    if not 1 <= len(condition.values) <= MAX_ATTRIBUTES:
        rule = f"must hold 1..{MAX_ATTRIBUTES}"
        broken.append(violation(path(field, "values"), rule, len(condition.values)))
    for i, value in enumerate(condition.values):
        note_text(broken, field, f"values[{i}]", value, MAX_ATTRIBUTE_VALUE_BYTES)
