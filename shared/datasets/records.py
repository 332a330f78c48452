"""Cells → domain values, checked by the contract's limits. Raises BadRow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shared.datasets import fields
from shared.datasets.event_ids import EventIds
from shared.datasets.fields import TimeUnit, bad
from shared.domain import Action, Event, Item, Relation, User
from shared.limits import (
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_ATTRIBUTES,
    MAX_CATEGORIES,
    MAX_CATEGORY_BYTES,
    MAX_DESCRIPTION_BYTES,
    MAX_DWELL_S,
    MAX_KIND_BYTES,
    MAX_RATING,
    MAX_TITLE_BYTES,
    MIN_RATING,
    text_rule,
)


@dataclass(frozen=True, slots=True)
class EventRules:
    """How event cells are read. `rating_scale` is the file's own scale, mapped linearly to 1..5."""

    now_ms: int
    unit: TimeUnit = TimeUnit.SECONDS
    rating_scale: tuple[float, float] = (MIN_RATING, MAX_RATING)


def event_builder(rules: EventRules) -> Callable[[object, object, Action | object, object, object], Event]:
    """A function (user, item, action, value, time) → Event with its derived id."""
    ids = EventIds()

    def build(user: object, item: object, act: Action | object, value: object, moment: object) -> Event:
        done = act if isinstance(act, Action) else fields.action("action", act)
        event = Event(
            user_id=fields.identifier("user", user),
            item_id=fields.identifier("item", item),
            action=done,
            value=_value(done, value, rules.rating_scale),
            time_ms=fields.time_ms("time", moment, rules.unit, rules.now_ms),
        )
        return replace(event, event_id=ids.of(event))

    return build


def _value(action: Action, cell: object, scale: tuple[float, float]) -> float:
    empty = cell is None or (isinstance(cell, str) and not cell.strip())
    if empty and action not in (Action.RATING, Action.DWELL):
        return 0.0
    value = fields.number("value", cell)
    if action is Action.RATING:
        low, high = scale
        if not low <= value <= high:
            raise bad("value", f"must be {low:g}..{high:g} for a rating", cell)
        if scale != (MIN_RATING, MAX_RATING):
            value = MIN_RATING + (MAX_RATING - MIN_RATING) * (value - low) / (high - low)
    if action is Action.DWELL and not 0.0 <= value <= MAX_DWELL_S:
        raise bad("value", f"must be 0..{MAX_DWELL_S:g} seconds for a dwell", cell)
    return value


def item(
    item_id: object,
    *,
    title: object = None,
    description: object = None,
    categories: object = None,
    attributes: Mapping[str, object] | None = None,
    available: object = None,
    created_ms: int = 0,
    separator: str = "|",
) -> Item:
    """An item, every text within its limit."""
    names = fields.names("categories", categories, separator)
    if len(names) > MAX_CATEGORIES:
        raise bad("categories", f"must be at most {MAX_CATEGORIES}", len(names))
    for name in names:
        _check("categories", name, MAX_CATEGORY_BYTES)
    return Item(
        item_id=fields.identifier("item", item_id),
        title=_checked("title", title, MAX_TITLE_BYTES),
        description=_checked("description", description, MAX_DESCRIPTION_BYTES),
        categories=names,
        attributes=checked_attributes(attributes or {}),
        available=_flag("available", available),
        created_ms=created_ms,
    )


def user(user_id: object, attributes: Mapping[str, object]) -> User:
    """A person with attributes; empty ones are left out."""
    return User(fields.identifier("user", user_id), checked_attributes(attributes))


def relation(
    user_id: object, other: object, *, kind: object = None, weight: object = None, time_ms: int = 0
) -> Relation:
    """A tie of two different people, weight in (0, 1]."""
    one, two = fields.identifier("user", user_id), fields.identifier("other", other)
    if one == two:
        raise bad("other", "must differ from user", two)
    empty = weight is None or (isinstance(weight, str) and not weight.strip())
    strength = 1.0 if empty else fields.number("weight", weight)
    if not 0.0 < strength <= 1.0:
        raise bad("weight", "must be in (0, 1]", weight)
    return Relation(one, two, _checked("kind", kind, MAX_KIND_BYTES) or "follows", strength, time_ms)


def nested_attributes(cell: object) -> dict[str, object]:
    """Attributes that one cell holds as an object of names and values (text, numbers, truth values)."""
    if cell is None:
        return {}
    if isinstance(cell, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in cell):
        cell = dict(cell)  # as Parquet's maps come
    if not isinstance(cell, Mapping):
        raise bad("attributes", "must be an object of names and values", cell)
    return {fields.text("attributes", n): fields.text(f"attributes.{n}", v) for n, v in cell.items()}


def checked_attributes(attributes: Mapping[str, object]) -> dict[str, str]:
    """Attributes as text, empty ones left out."""
    values = {name: fields.text(name, cell) for name, cell in attributes.items()}
    kept = {name: value for name, value in values.items() if value}
    if len(kept) > MAX_ATTRIBUTES:
        raise bad("attributes", f"must be at most {MAX_ATTRIBUTES}", len(kept))
    for name, value in kept.items():
        _check("attributes", name, MAX_ATTRIBUTE_NAME_BYTES, min_bytes=1)
        _check(name, value, MAX_ATTRIBUTE_VALUE_BYTES)
    return kept


def _checked(field: str, cell: object, max_bytes: int) -> str:
    """Text on one line: line breaks and tabs become blanks, which no reader of a list misses."""
    value = " ".join(fields.text(field, cell).split())
    _check(field, value, max_bytes)
    return value


def _check(field: str, value: str, max_bytes: int, *, min_bytes: int = 0) -> None:
    broken = text_rule(value, max_bytes, min_bytes=min_bytes)
    if broken:
        raise bad(field, broken, value)


def _flag(field: str, cell: object) -> bool:
    if isinstance(cell, bool):
        return cell
    match fields.text(field, cell).lower():
        case "" | "true" | "yes" | "1":
            return True
        case "false" | "no" | "0":
            return False
    raise bad(field, "must be true or false", cell)
