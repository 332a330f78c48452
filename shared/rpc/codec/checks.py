"""The rules that several messages share. Texts of paths are only made for what is broken: decoding is hot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

from shared.domain import DEFAULT_DOMAIN
from shared.errors import InvalidInput, TooLarge, Violation, violation
from shared.limits import (
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_ATTRIBUTES,
    MAX_TIME_MS,
    id_rule,
    text_rule,
)
from shared.rpc.serving import served_call

E = TypeVar("E", bound=IntEnum)
MAX_FLOAT32 = 3.4028234663852886e38


def check_domain(domain: str, served: Collection[str]) -> str:
    """The domain a request means; empty is `default`. InvalidInput names the served ones that its caller may
    know of."""
    name = domain or DEFAULT_DOMAIN
    if name not in served:
        call = served_call()
        known = sorted(served) if call is None or call.caller is None else call.caller.seen_of(served)
        raise InvalidInput.of("domain", f"must be one of {', '.join(known)}", domain)
    return name


def check_count(count: int, limit: int, *, field: str) -> None:
    """Raises TooLarge where a request holds more than `limit` of `field`."""
    if count > limit:
        raise TooLarge.of(field, f"must hold at most {limit}", count)


def decode_ids(ids: Sequence[str], *, field: str, max_count: int, min_count: int = 0) -> tuple[str, ...]:
    """Ids of people or items, in the order given."""
    check_count(len(ids), max_count, field=field)
    if len(ids) < min_count:
        raise InvalidInput.of(field, f"must hold at least {min_count}", len(ids))
    broken = [violation(f"{field}[{i}]", rule, v) for i, v in enumerate(ids) if (rule := id_rule(v))]
    raise_broken(broken)
    return tuple(ids)


def raise_broken(broken: list[Violation]) -> None:
    """Raises InvalidInput where there is any."""
    if broken:
        raise InvalidInput(broken)


def path(field: str, name: str) -> str:
    """`events[3]`, `value` → `events[3].value`."""
    return f"{field}.{name}" if field else name


def note_id(broken: list[Violation], field: str, name: str, value: str) -> None:
    rule = id_rule(value)
    if rule:
        broken.append(violation(path(field, name), rule, value))


def note_text(broken: list[Violation], field: str, name: str, value: str, max_bytes: int) -> None:
    rule = text_rule(value, max_bytes)
    if rule:
        broken.append(violation(path(field, name), rule, value))


def note_time(broken: list[Violation], field: str, name: str, time_ms: int) -> None:
    """0 (unset) to the year 9999."""
    if not 0 <= time_ms <= MAX_TIME_MS:
        rule = f"must be milliseconds since 1970, 0..{MAX_TIME_MS}"
        broken.append(violation(path(field, name), rule, time_ms))


def note_enum(broken: list[Violation], field: str, name: str, number: int, enum: type[E]) -> E | None:
    """The member, or None with a violation: proto3 enums are open, so any number may arrive."""
    try:
        return enum(number)
    except ValueError:
        rule = f"must be one of {', '.join(f'{m.value} ({m.name})' for m in enum)}"
        broken.append(violation(path(field, name), rule, number))
        return None


def note_attributes(broken: list[Violation], field: str, values: Mapping[str, str]) -> dict[str, str]:
    """A copy of the attributes."""
    if len(values) > MAX_ATTRIBUTES:
        broken.append(
            violation(path(field, "attributes"), f"must hold at most {MAX_ATTRIBUTES}", len(values))
        )
    kept = dict(values)
    for name, value in kept.items():
        rule = text_rule(name, MAX_ATTRIBUTE_NAME_BYTES, min_bytes=1)
        if rule:
            broken.append(violation(path(field, "attributes"), f"names {rule}", name))
        note_text(broken, field, f"attributes[{name[:40]!r}]", value, MAX_ATTRIBUTE_VALUE_BYTES)
    return kept
