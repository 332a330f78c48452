"""Files as streams of raw rows: delimited text, `::` text, JSON Lines, Parquet.

Text is parsed row by row in Python: a columnar reader types whole columns and fails a whole
block on one bad cell, while here one bad row must cost only itself. Memory stays bounded by one batch.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from shared.datasets.rows import DatasetError, RawRow, Reject, no_rows
from shared.datasets.texts import Lines, compression_of, count_lines, open_text, require_text

_PARQUET_BATCH_ROWS = 8192
_DELIMITERS = ",;\t|"


class Source(Protocol):
    """A file with named columns."""

    @property
    def path(self) -> Path: ...

    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the file's order. Raises DatasetError where it cannot be read."""
        ...

    def read(self, columns: Sequence[str]) -> Iterator[RawRow | Reject]:
        """Rows whose `cells` are the asked columns'. Unreadable rows come as Rejects."""
        ...

    def count(self) -> int:
        """How many rows there are, about: text is counted by its line breaks."""
        ...

    def holds_objects(self, column: str) -> bool:
        """Whether the column's cells can be objects (names and values) rather than plain values."""
        ...


@dataclass(frozen=True, slots=True)
class DelimitedText:
    """CSV, TSV and the like. `header` gives the names where the file has no header line;
    `suffix_from` cuts names at a mark (`user_id:token` → `user_id`)."""

    path: Path
    delimiter: str = ","
    header: tuple[str, ...] = ()
    encoding: str = "utf-8"
    quoted: bool = True
    suffix_from: str = ""

    def columns(self) -> tuple[str, ...]:
        if self.header:
            return self.header
        with open_text(self.path, self.encoding) as text:
            names = self._names(Lines(text))
        if len(names) == 1 and any(mark in names[0] for mark in _DELIMITERS):
            raise DatasetError(
                f"{self.path} must have its columns delimited by {self.delimiter!r}, got the one column "
                f"{names[0]!r}; convert it, or name a file delimited by tabs .tsv, by commas .csv"
            )
        return tuple(self._name(n, first=i == 0) for i, n in enumerate(names))

    def read(self, columns: Sequence[str]) -> Iterator[RawRow | Reject]:
        names = self.columns()
        places = [_place(self.path, names, c) for c in columns]
        with open_text(self.path, self.encoding) as text:
            lines = Lines(text)
            reader = self._reader(lines)
            if not self.header:
                next(reader)
            number = 0
            while True:
                lines.taken.clear()
                broken = ""
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    broken, fields = f"row must be {self._kind()}: {error}", []
                if not fields and not broken:  # a blank line is no row
                    continue
                number += 1
                if not broken and len(fields) != len(names):
                    broken = f"row must have {len(names)} columns, got {len(fields)}"
                whole = self.delimiter.join(fields)
                if broken:
                    # A quote that nobody closed takes the lines after it along: only its own line is lost.
                    first, *others = lines.taken
                    lines.put_back(others)
                    mark = f" (a quote is not closed in this line, {len(others)} more were read)"
                    reason = broken + (mark if others else "")
                    yield RawRow(self.path.name, number, (), first.rstrip("\r\n")).reject(reason)
                else:
                    yield RawRow(self.path.name, number, tuple(fields[p] for p in places), whole)

    def _names(self, lines: Lines) -> list[str]:
        """What the first line says, which is shown: it must be text."""
        try:
            names = next(self._reader(lines))
        except StopIteration:
            raise no_rows(self.path, "nor a first line that names the columns") from None
        except csv.Error as error:
            require_text(self.path, "".join(lines.taken))
            raise DatasetError(
                f"{self.path} must be {self._kind()}, its first line naming the columns: {error}; "
                "mend that line"
            ) from error
        require_text(self.path, "".join(lines.taken))
        return names

    def count(self) -> int:
        return max(0, count_lines(self.path) - (0 if self.header else 1))

    def holds_objects(self, column: str) -> bool:
        return False

    def _reader(self, text: Iterable[str]) -> Iterator[list[str]]:
        if self.quoted:
            return csv.reader(text, delimiter=self.delimiter, strict=True)
        return csv.reader(text, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)

    def _name(self, name: str, *, first: bool) -> str:
        name = name.removeprefix("\ufeff") if first else name
        return (name.split(self.suffix_from)[0] if self.suffix_from else name).strip()

    def _kind(self) -> str:
        return f"text delimited by {self.delimiter!r}"


@dataclass(frozen=True, slots=True)
class SplitText:
    """Lines split at a mark of several characters, without quoting (`1::1193::5::978300760`)."""

    path: Path
    header: tuple[str, ...]
    mark: str = "::"
    encoding: str = "latin-1"

    def columns(self) -> tuple[str, ...]:
        return self.header

    def read(self, columns: Sequence[str]) -> Iterator[RawRow | Reject]:
        places = [_place(self.path, self.header, c) for c in columns]
        number = 0
        with open_text(self.path, self.encoding) as text:
            for line in text:
                whole = line.rstrip("\r\n")
                if not whole:
                    continue
                number += 1
                fields = whole.split(self.mark)
                row = RawRow(self.path.name, number, (), whole)
                if len(fields) != len(self.header):
                    yield row.reject(f"row must have {len(self.header)} columns, got {len(fields)}")
                else:
                    yield RawRow(row.file, number, tuple(fields[p] for p in places), whole)

    def count(self) -> int:
        return count_lines(self.path)

    def holds_objects(self, column: str) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line; a missing key is an empty cell."""

    path: Path

    def columns(self) -> tuple[str, ...]:
        """Keys of the first well-formed lines (a key may be absent in some)."""
        names: dict[str, None] = {}
        blank = True
        with open_text(self.path) as text:
            for _, line in zip(range(1000), text, strict=False):
                blank = blank and not line.strip()
                parsed = _json_object(line)
                if isinstance(parsed, dict):
                    names.update(dict.fromkeys(parsed))
        if blank:
            raise no_rows(self.path)
        if not names:
            raise DatasetError(
                f"{self.path} holds no JSON object in its first 1,000 lines: check that it is the file you "
                "mean, and whole; JSON Lines hold one object a line"
            )
        return tuple(names)

    def read(self, columns: Sequence[str]) -> Iterator[RawRow | Reject]:
        number = 0
        with open_text(self.path) as text:
            for line in text:
                whole = line.strip()
                if not whole:
                    continue
                number += 1
                parsed = _json_object(whole)
                row = RawRow(self.path.name, number, (), whole)
                if isinstance(parsed, str):
                    yield row.reject(parsed)
                else:
                    yield RawRow(row.file, number, tuple(parsed.get(c) for c in columns), whole)

    def count(self) -> int:
        return count_lines(self.path)

    def holds_objects(self, column: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Parquet:
    """A Parquet file, read batch by batch."""

    path: Path

    def columns(self) -> tuple[str, ...]:
        with self._open() as file:
            return tuple(file.schema_arrow.names)

    def read(self, columns: Sequence[str]) -> Iterator[RawRow | Reject]:
        names = self.columns()
        for column in columns:
            _place(self.path, names, column)
        number = 0
        with self._open() as file:
            for batch in file.iter_batches(
                batch_size=_PARQUET_BATCH_ROWS, columns=list(dict.fromkeys(columns))
            ):
                cells = [_values(batch.column(c)) for c in columns]
                for row in zip(*cells, strict=True):
                    number += 1
                    raw = RawRow(self.path.name, number, row, row)
                    bad = next(
                        (c for c, v in zip(columns, row, strict=True) if isinstance(v, _Unreadable)), ""
                    )
                    yield raw.reject(f"column {bad!r} must hold what can be read, got {row}") if bad else raw

    def count(self) -> int:
        with self._open() as file:
            return int(file.metadata.num_rows)

    def holds_objects(self, column: str) -> bool:
        with self._open() as file:
            kind = file.schema_arrow.field(column).type
            return bool(pa.types.is_struct(kind) or pa.types.is_map(kind))

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        if not self.path.is_file():
            raise DatasetError(f"{self.path} is not a file; check the path")
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{self.path} is not a Parquet file, or not a whole one ({error}); write or fetch it again"
            ) from error


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A cell that Python has no value for: a day beyond its calendar, text that is no UTF-8."""

    why: str


def _values(column: pa.Array) -> list[object]:
    """One by one only where that is needed: a bad cell costs its row alone."""
    try:
        values: list[object] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        values = [_value(cell) for cell in column]
    return values


def _value(cell: pa.Scalar) -> object:
    try:
        value: object = cell.as_py()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return _Unreadable(str(error))
    return value


def source_of(path: Path) -> Source:
    """By the file's name: .csv, .tsv, .jsonl/.ndjson (each also compressed) or .parquet."""
    match Path(path.name.lower().removesuffix(compression_of(path))).suffix:
        case ".csv":
            return DelimitedText(path)
        case ".tsv":
            return DelimitedText(path, delimiter="\t")
        case ".jsonl" | ".ndjson" | ".jsonlines":
            return JsonLines(path)
        case ".parquet" | ".pq":
            return Parquet(path)
    raise DatasetError(
        f"{path}: the name must end in .csv, .tsv, .jsonl, .ndjson or .parquet (text also .gz)"
    )


def _json_object(line: str) -> dict[str, object] | str:
    """The object, or the broken rule."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"row must be JSON: {error}"
    return parsed if isinstance(parsed, dict) else f"row must be a JSON object, got {type(parsed).__name__}"


def _place(path: Path, names: Sequence[str], column: str) -> int:
    try:
        return names.index(column)
    except ValueError:
        raise DatasetError(f"{path} has no column {column!r}; its columns: {', '.join(names)}") from None
