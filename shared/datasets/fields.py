"""One cell → one typed value, or BadRow saying field, rule and value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from enum import Enum

from shared.datasets.rows import BadRow
from shared.domain import Action
from shared.errors import violation
from shared.limits import MAX_FUTURE_MS, MAX_TIME_MS, id_rule

_CODE_DIGITS = 6
_ACTIONS = {a.name.lower(): a for a in Action}


class TimeUnit(Enum):
    """How a file writes times: numbers since the Unix epoch, or ISO 8601 text."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"
    ISO = "iso"


_TO_MS = {
    TimeUnit.SECONDS: 1e3,
    TimeUnit.MILLISECONDS: 1.0,
    TimeUnit.MICROSECONDS: 1e-3,
    TimeUnit.NANOSECONDS: 1e-6,
}
_FINER_THAN_SECONDS = (TimeUnit.MILLISECONDS, TimeUnit.MICROSECONDS, TimeUnit.NANOSECONDS)
# A number below this is a time in seconds; as milliseconds it would be in the first years after 1970.
_SECONDS_TILL_5138 = 1e11
_UNIT_BELOW = (
    (_SECONDS_TILL_5138, TimeUnit.SECONDS),
    (1e14, TimeUnit.MILLISECONDS),
    (1e17, TimeUnit.MICROSECONDS),
)


def is_code(text: str) -> bool:
    """Whether it is a small number in plain digits: `isdigit` also takes `²`, which no `int` does."""
    return text.isascii() and text.isdigit() and len(text) <= _CODE_DIGITS


def bad(field: str, rule: str, value: object) -> BadRow:
    return BadRow(violation(field, rule, value).description)


def text(field: str, cell: object) -> str:
    """Text of a cell; whole numbers as such, nothing (also NaN, as data frames write it) as ""."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        if not math.isfinite(cell):
            raise bad(field, "must be finite", cell)
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, int):
        return str(cell)
    if not isinstance(cell, str):
        raise bad(field, "must be text or a number", cell)
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise bad(field, "must be UTF-8", cell) from None
    return cell.strip()


def identifier(field: str, cell: object) -> str:
    """An id of a person or item: 1 to 256 bytes, no control characters; no empty cell, no truth value."""
    if isinstance(cell, bool):
        raise bad(field, "must be text or a number", cell)
    value = text(field, cell)
    broken = id_rule(value)
    if broken:
        raise bad(field, broken, value)
    return value


def number(field: str, cell: object) -> float:
    """A finite number. An empty cell is no number."""
    if isinstance(cell, bool) or cell is None or (isinstance(cell, str) and not cell.strip()):
        raise bad(field, "must be a number", cell)
    if not isinstance(cell, (int, float, str)):
        try:
            cell = float(cell)  # type: ignore[arg-type]  # decimals and the like
        except (TypeError, ValueError):
            raise bad(field, "must be a number", cell) from None
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        raise bad(field, "must be a number", cell) from None
    if not math.isfinite(value):
        raise bad(field, "must be finite", cell)
    return value


def action(field: str, cell: object) -> Action:
    """By name (`like`, `LIKE`, `ACTION_LIKE`)."""
    name = text(field, cell).lower().removeprefix("action_")
    try:
        return _ACTIONS[name]
    except KeyError:
        raise bad(field, f"must be one of {', '.join(_ACTIONS)}", cell) from None


def time_ms(field: str, cell: object, unit: TimeUnit, now_ms: int) -> int:
    """Milliseconds since the epoch, after 1970 and at most five minutes after `now_ms`."""
    if isinstance(cell, (datetime, date)):
        value = _datetime_ms(cell)
    elif unit is TimeUnit.ISO:
        value = _iso_ms(field, cell)
    else:
        value = _scaled_ms(field, cell, unit)
    if value <= 0:
        raise bad(field, "must be after 1970-01-01", cell)
    if unit in _FINER_THAN_SECONDS and value < _SECONDS_TILL_5138 and not isinstance(cell, date):
        rule = f"must be in {unit.value}, as the file's times are: in those it is before March 1973"
        raise bad(field, rule, cell)
    if value > MAX_TIME_MS or value > now_ms + MAX_FUTURE_MS:
        raise bad(field, "must not be in the future", cell)
    return value


def _scaled_ms(field: str, cell: object, unit: TimeUnit) -> int:
    scale = _TO_MS[unit]
    if isinstance(cell, int) and not isinstance(cell, bool):
        # Whole numbers stay exact: nanoseconds do not fit a double.
        return cell * int(scale) if scale >= 1 else cell // round(1 / scale)
    return round(number(field, cell) * scale)


def _iso_ms(field: str, cell: object) -> int:
    written = text(field, cell)
    try:
        return _datetime_ms(datetime.fromisoformat(written))
    except (ValueError, OverflowError):
        raise bad(field, "must be an ISO 8601 date or time", cell) from None


def _datetime_ms(value: date) -> int:
    """A time without a zone is UTC."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def detect_unit(cells: Iterable[object]) -> TimeUnit:
    """The unit of a file's times, by the majority of its first ones; ties go to the unit seen first.

    Each cell has one vote: a number for the unit that its size tells (seconds reach 10^11 in the year
    5138, milliseconds in 1973), ISO 8601 text for ISO, anything else none. One unit rules the whole file,
    so a stray value is refused, not reinterpreted, and cannot have the other rows refused either.
    """
    votes: Counter[TimeUnit] = Counter()
    for cell in cells:
        if isinstance(cell, (datetime, date)):
            return TimeUnit.ISO
        vote = _unit_of(cell)
        if vote is not None:
            votes[vote] += 1
    return votes.most_common(1)[0][0] if votes else TimeUnit.MILLISECONDS


def _unit_of(cell: object) -> TimeUnit | None:
    try:
        size = abs(number("time", cell))
    except BadRow:
        return TimeUnit.ISO if isinstance(cell, str) and _is_iso(cell) else None
    if size == 0.0:
        return None
    return next((unit for bound, unit in _UNIT_BELOW if size < bound), TimeUnit.NANOSECONDS)


def _is_iso(cell: str) -> bool:
    try:
        datetime.fromisoformat(cell.strip())
    except ValueError:
        return False
    return True


def names(field: str, cell: object, separator: str = "|") -> tuple[str, ...]:
    """A list cell, or text split at `separator`; blanks and repeats left out, order kept."""
    if cell is None:
        return ()
    parts = cell if isinstance(cell, (list, tuple)) else text(field, cell).split(separator)
    return tuple(dict.fromkeys(name for name in (text(field, p) for p in parts) if name))
