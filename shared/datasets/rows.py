"""What a reader yields: accepted rows and rejects, each with its row number. Nothing is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from shared.domain import Event, Item, Relation, User
from shared.errors import NotFound

T = TypeVar("T")
MAX_RAW_CHARS = 2000


class DatasetError(NotFound):
    """A file or column is missing, or a file is not what it should be; says what to do about it."""

    reason = "DATASET"


def no_rows(path: Path, nor: str = "") -> DatasetError:
    """A file that holds nothing. nor: what it does not hold either."""
    return DatasetError(
        f"{path} must hold rows, got none{', ' if nor else ''}{nor}; check that it is the file you mean, and "
        "whole"
    )


class BadRow(ValueError):
    """One row breaks a rule; the message is the rule, field and value."""


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One accepted row. `number` counts the file's data rows from 1; a header line is not counted."""

    number: int
    value: T
    file: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that could not be used."""

    file: str
    number: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row before parsing: the asked columns' cells, and the whole row as read."""

    file: str
    number: int
    cells: tuple[object, ...]
    whole: object

    def reject(self, reason: str) -> Reject:
        raw = self.whole if isinstance(self.whole, str) else repr(self.whole)
        return Reject(self.file, self.number, reason, raw[:MAX_RAW_CHARS])


Reader = Callable[[], Iterator[Row[T] | Reject]]


def _nothing() -> Iterator[Row[T] | Reject]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Dataset:
    """Four streams, each of which may be read again and again; files are opened when read.

    `notes` says what a reader had to decide (for example synthetic times): show them to the user.
    `sizes[kind]()` counts a kind's rows (about, and fast) for progress bars.
    Events come in the file's order; ties in time are to keep it.
    """

    name: str
    events: Reader[Event] = _nothing
    items: Reader[Item] = _nothing
    users: Reader[User] = _nothing
    relations: Reader[Relation] = _nothing
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, Callable[[], int]] = field(default_factory=dict)


def accepted(rows: Iterable[Row[T] | Reject]) -> Iterator[T]:
    """Only the good rows' values: for readers that have dealt with the rejects elsewhere."""
    return (row.value for row in rows if isinstance(row, Row))


def parse(
    rows: Iterable[RawRow | Reject], build: Callable[[tuple[object, ...]], T]
) -> Iterator[Row[T] | Reject]:
    """Builds a value of each raw row; a BadRow becomes a Reject."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            value = build(row.cells)
        except BadRow as error:
            yield row.reject(str(error))
        else:
            yield Row(row.number, value, row.file)
