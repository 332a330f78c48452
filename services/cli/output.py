"""What a command prints: tables for people, JSON for programs; progress and errors go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; numbers are right-aligned."""

    title: str
    numeric: bool = False
    wrap: bool = True


def stdout() -> Console:
    # No soft wrapping of what programs may read; width follows the terminal, 120 in a pipe.
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout; messages as proto JSON with their field names."""
    print(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """Messages (also inside lists and dicts) as plain values."""
    if isinstance(value, Message):
        return MessageToDict(
            value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def table(title: str, columns: Sequence[Column | str], rows: Iterable[Sequence[object]]) -> Table:
    """A rich table; cells are shown as text, markup in data is not interpreted."""
    made = Table(title=title or None, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        shown = Column(column) if isinstance(column, str) else column
        made.add_column(
            shown.title,
            justify="right" if shown.numeric else "left",
            no_wrap=not shown.wrap,
            overflow="ellipsis" if not shown.wrap else "fold",
        )
    for row in rows:
        made.add_row(*(escaped(str(cell)) for cell in row))
    return made


def escaped(text: str) -> str:
    """Data shown literally, whatever brackets it holds."""
    return text.replace("[", "\\[")
