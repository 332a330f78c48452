"""How your own files are read: the same options wherever files are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from shared.datasets import Columns, FileOptions
from shared.errors import InvalidInput

PANEL = "Your own files"
_SCALE, _SEPARATOR = "1:5", "|"

Mapping_ = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,…",
        help="Which column holds a field (user, item, action, value, time, title, description, "
        "categories, available, created, other, kind, weight, attribute.NAME, or attributes "
        "for an object of them); "
        "`items.title=name` means one file only.",
        rich_help_panel=PANEL,
    ),
]
ActionName = Annotated[
    str,
    typer.Option("--action", help="What every event is, where no column says so.", rich_help_panel=PANEL),
]
TimeUnitName = Annotated[
    str,
    typer.Option(
        "--time-unit", help="s, ms, us, ns or iso; detected where not given.", rich_help_panel=PANEL
    ),
]
RatingScale = Annotated[
    str,
    typer.Option(
        "--rating-scale",
        metavar="LOW:HIGH",
        help="Scale of the ratings; mapped to 1:5.",
        rich_help_panel=PANEL,
    ),
]
Separator = Annotated[
    str, typer.Option("--separator", help="Between categories in one cell.", rich_help_panel=PANEL)
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the options say, in the user's words."""

    mapping: Sequence[str] | None = None
    action: str = ""
    time_unit: str = ""
    rating_scale: str = _SCALE
    separator: str = _SEPARATOR

    def columns(self) -> Columns:
        return Columns.parse(self.mapping or [])

    def options(self) -> FileOptions:
        """Raises BadParameter that names every bad option."""
        if not self.separator:
            raise typer.BadParameter("--separator must not be empty: it stands between categories")
        try:
            return FileOptions.parse(
                action=self.action,
                time_unit=self.time_unit,
                rating_scale=self.rating_scale or _SCALE,
                separator=self.separator,
            )
        except InvalidInput as error:
            raise typer.BadParameter("\n".join(v.description for v in error.violations)) from error

    def given(self) -> dict[str, object]:
        """By option, what differs from its default."""
        values = {
            "--map": (self.mapping or None, None),
            "--action": (self.action, ""),
            "--time-unit": (self.time_unit, ""),
            "--rating-scale": (self.rating_scale, _SCALE),
            "--separator": (self.separator, _SEPARATOR),
        }
        return {option: value for option, (value, default) in values.items() if value != default}

    def arguments(self) -> list[str]:
        """The same for `python -m services.training`, judged here before it starts."""
        self.options()
        pairs = [f"--map={pair}" for pair in self.mapping or ()]
        return pairs + [f"{option}={value}" for option, value in self.given().items() if option != "--map"]
