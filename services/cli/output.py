"""What a command prints: tables for people, JSON for programs; progress and errors go to stderr.

Whatever data hold, a terminal is told nothing by them: control characters are shown as `\\x1b`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

# All but tab and line break; what turns the direction of writing round; bytes that did not decode.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Python's for bytes of a file that are not UTF-8.
_BYTES = range(0xDC80, 0xDD00)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; numbers are right-aligned."""

    title: str
    numeric: bool = False
    wrap: bool = True


class _PlainConsole(Console):
    """Prints control characters of what it is given as text; those of colours and bars are its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else visible(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


def stdout() -> Console:
    # No soft wrapping of what programs may read; width follows the terminal, 120 in a pipe.
    return _PlainConsole(width=None if sys.stdout.isatty() else 120, highlight=False)


def stderr() -> Console:
    return _PlainConsole(stderr=True, highlight=False)


def confirm(question: str) -> None:
    """Asks on stderr. Raises typer.Abort for a no, and where nobody answers."""
    with redirect_stdout(sys.stderr):  # where the prompt's last blank would go
        typer.confirm(question, abort=True, err=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; messages as proto JSON with their field names."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """The same, as a text without control characters."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=2)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
    """Data shown literally, whatever brackets and control characters it holds."""
    return visible(text).replace("[", "\\[")


def visible(text: str) -> str:
    """Control characters as `\\x1b`, so that a terminal shows them and does nothing."""
    return _CONTROLS.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    number = ord(found[0])
    number -= 0xDC00 if number in _BYTES else 0
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
