"""How the cells of anybody's files are read, as a command is told."""

from __future__ import annotations

from dataclasses import dataclass

from shared.datasets.fields import TimeUnit
from shared.domain import Action
from shared.errors import InvalidInput, Violation, violation
from shared.limits import MAX_RATING, MIN_RATING

SEPARATOR = "|"
RATING_SCALE = (MIN_RATING, MAX_RATING)


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How cells are read. `unit` None = detected from the first 1,000 rows; `action` is that of events
    files without an action column (by default `rating` where there is a value column)."""

    unit: TimeUnit | None = None
    action: Action | None = None
    rating_scale: tuple[float, float] = RATING_SCALE
    separator: str = SEPARATOR

    @classmethod
    def parse(
        cls, *, action: str = "", time_unit: str = "", rating_scale: str = "", separator: str = ""
    ) -> FileOptions:
        """From the options' words; "" is the default. Raises InvalidInput that names every bad one."""
        units, actions = {u.value: u for u in TimeUnit}, {a.name.lower(): a for a in Action}
        scale = _scale(rating_scale) if rating_scale else RATING_SCALE
        found: list[Violation] = []
        if action and action.lower() not in actions:
            found.append(violation("--action", f"must be one of {', '.join(actions)}", action))
        if time_unit and time_unit not in units:
            found.append(violation("--time-unit", f"must be one of {', '.join(units)}", time_unit))
        if scale is None:
            found.append(violation("--rating-scale", "must be LOW:HIGH with LOW < HIGH", rating_scale))
        if found or scale is None:
            raise InvalidInput(found)
        return cls(units.get(time_unit), actions.get(action.lower()), scale, separator or SEPARATOR)


def _scale(text: str) -> tuple[float, float] | None:
    low, colon, high = text.partition(":")
    try:
        scale = float(low), float(high)
    except ValueError:
        return None
    return scale if colon and scale[0] < scale[1] else None
