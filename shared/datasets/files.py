"""Anybody's files: CSV, TSV, JSON Lines or Parquet, with a mapping from our fields to their columns.

    load_files({"events": Path("log.csv")}, Columns.parse(["user=uid", "item=sku", "time=ts"]))

A field that is not mapped is looked for under its usual names. `attribute.NAME=COLUMN` maps an attribute of
items or users, which JSON Lines and Parquet may also hold as one object, `attributes`; a prefix keeps a
mapping to one kind of file (`items.title=name`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from shared.datasets import fields, records
from shared.datasets.fields import TimeUnit
from shared.datasets.reading import FileOptions
from shared.datasets.records import EventRules
from shared.datasets.rows import Dataset, DatasetError, Reject, Row, no_rows, parse
from shared.datasets.sources import Source, source_of
from shared.domain import Action, Event, Item, Relation, User

# The fields of each kind of file with their usual column names; "!" marks required ones.
_FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "events": {
        "user!": ("user", "user_id", "userId"),
        "item!": ("item", "item_id", "itemId"),
        "action": ("action", "event", "event_type"),
        "value": ("value", "rating"),
        "time!": ("time", "timestamp", "time_ms", "ts"),
    },
    "items": {
        "item!": ("item", "item_id", "itemId", "id"),
        "title": ("title", "name"),
        "description": ("description", "text"),
        "categories": ("categories", "genres", "category"),
        "available": ("available",),
        "created": ("created", "created_ms", "created_at"),
        "attributes": ("attributes",),
    },
    "users": {"user!": ("user", "user_id", "userId", "id"), "attributes": ("attributes",)},
    "relations": {
        "user!": ("user", "user_id", "from"),
        "other!": ("other", "other_user_id", "to", "friend"),
        "kind": ("kind",),
        "weight": ("weight",),
        "time": ("time", "timestamp", "time_ms", "since"),
    },
}
KINDS = tuple(_FIELDS)
_ATTRIBUTE = "attribute."
_DETECT_ROWS = 1000
_SHOWN_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds which field: `by_kind[kind][field] = column`."""

    by_kind: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> Columns:
        """From `field=column` texts, several in one separated by commas. Raises DatasetError."""
        by_kind: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        for pair in (part.strip() for text in pairs for part in text.split(",")):
            name, equals, column = pair.partition("=")
            name, column = name.strip(), column.strip()
            if not equals or not name or not column:
                raise DatasetError(f"--map must be field=column, got {pair!r}")
            prefix, dot, rest = name.partition(".")
            kinds, wanted = ((prefix,), rest) if dot and prefix in KINDS else (KINDS, name)
            fitting = [kind for kind in kinds if _takes(kind, wanted)]
            if not fitting:
                known = ", ".join(dict.fromkeys(n.rstrip("!") for kind in kinds for n in _FIELDS[kind]))
                raise DatasetError(f"--map names no field {wanted!r}; fields: {known}, attribute.NAME")
            for kind in fitting:
                known = by_kind[kind].setdefault(wanted, column)
                if known != column:
                    raise DatasetError(
                        f"--map must name one column for {wanted}, got {known!r} and {column!r}"
                    )
        return cls(by_kind)

    def resolve(self, kind: str, source: Source) -> dict[str, str]:
        """Field → column of this file, mapped or found by usual names. Raises DatasetError."""
        present = source.columns()
        twice = [column for column, times in Counter(present).items() if times > 1 and column]
        if twice:
            raise DatasetError(
                f"{source.path} must name each column once, got {', '.join(map(repr, twice))} "
                "more than once; rename or remove the others"
            )
        chosen = dict(self.by_kind.get(kind, {}))
        for name, column in chosen.items():
            if column not in present:
                raise DatasetError(
                    f"{source.path} has no column {column!r} (mapped from {name}); "
                    f"its columns: {', '.join(present)}"
                )
        for name, usual in _FIELDS[kind].items():
            plain = name.rstrip("!")
            if plain in chosen:
                continue
            found = next((c for c in usual if c in present), None)
            if plain == "attributes" and found and not source.holds_objects(found):
                continue  # a plain column of that name: mapped by attribute.NAME if it is wanted
            if found is not None:
                chosen[plain] = found
            elif name.endswith("!"):
                raise DatasetError(
                    f"{source.path} has no column for {plain}; say which with --map {plain}=COLUMN; "
                    f"its columns: {', '.join(present)}"
                )
        return chosen


def load_files(
    paths: Mapping[str, Path],
    columns: Columns | None = None,
    options: FileOptions | None = None,
    *,
    now_ms: int | None = None,
) -> Dataset:
    """Opens files by kind ("events", "items", "users", "relations").

    Every file and mapping is checked here, so that a wrong mapping is known before the first row is
    sent. Raises DatasetError.
    """
    now = now_ms or time.time_ns() // 1_000_000
    how, mapping = options or FileOptions(), columns or Columns()
    tables = {kind: _Table.open(kind, source_of(path), mapping, how, now) for kind, path in paths.items()}
    readers = {
        "events": _events,
        "items": _items,
        "users": _users,
        "relations": _relations,
    }
    dataset = {kind: (lambda k=kind, t=table: readers[k](t)) for kind, table in tables.items()}
    notes = tuple(note for table in tables.values() for note in table.notes())
    sizes = {kind: table.source.count for kind, table in tables.items()}
    return Dataset("files", notes=notes, sizes=sizes, **dataset)  # type: ignore[arg-type]  # one reader a kind


@dataclass(frozen=True, slots=True)
class _Table:
    """One file, ready to be read: the resolved columns and how times are written."""

    kind: str
    source: Source
    columns: Mapping[str, str]
    unit: TimeUnit
    how: FileOptions
    now_ms: int

    @classmethod
    def open(cls, kind: str, source: Source, mapping: Columns, how: FileOptions, now_ms: int) -> _Table:
        columns = mapping.resolve(kind, source)
        if kind == "events" and "action" not in columns and how.action is None and "value" not in columns:
            raise DatasetError(
                f"{source.path} has neither an action nor a value column: say what its rows are with "
                "--action (for example --action click) or --map action=COLUMN"
            )
        if next(source.read(tuple(columns.values())), None) is None:
            raise no_rows(source.path)
        column = columns.get("created" if kind == "items" else "time")
        unit = how.unit
        if unit is None:
            rows = islice(source.read((column,)), _DETECT_ROWS) if column else ()
            unit = fields.detect_unit(row.cells[0] for row in rows if not isinstance(row, Reject))
        return cls(kind, source, columns, unit, how, now_ms)

    @property
    def time_field(self) -> str:
        name = "created" if self.kind == "items" else "time"
        return name if name in self.columns else ""

    def cell(self, name: str) -> int | None:
        """Place of a field in the cells that `raw` yields."""
        return list(self.columns).index(name) if name in self.columns else None

    def attributes(self) -> Callable[[tuple[object, ...]], dict[str, object]]:
        """A function that reads a row's attributes: those of an object, then those mapped by name."""
        nested = self.cell("attributes")
        places = {
            name.removeprefix(_ATTRIBUTE): place
            for place, name in enumerate(self.columns)
            if name.startswith(_ATTRIBUTE)
        }
        return lambda cells: {
            **records.nested_attributes(_at(cells, nested)),
            **{name: cells[place] for name, place in places.items()},
        }

    def notes(self) -> Iterator[str]:
        """What was decided about the file that its user may want otherwise."""
        name = self.source.path.name
        if self.time_field and self.how.unit is None:
            yield f"{name}: times are read as {self.unit.value}"
        used = set(self.columns.values())
        ignored = [column for column in self.source.columns() if column and column not in used]
        if ignored:
            more = f" and {len(ignored) - _SHOWN_COLUMNS} more" if len(ignored) > _SHOWN_COLUMNS else ""
            keep = f"--map {self.kind}.{_ATTRIBUTE}{ignored[0]}={ignored[0]}"
            hint = f" (keep one with {keep})" if _takes(self.kind, _ATTRIBUTE) else ""
            yield f"{name}: ignored columns: {', '.join(ignored[:_SHOWN_COLUMNS])}{more}{hint}"


def _events(table: _Table) -> Iterator[Row[Event] | Reject]:
    rules = EventRules(table.now_ms, table.unit, table.how.rating_scale)
    build = records.event_builder(rules)
    user, item, moment = table.cell("user"), table.cell("item"), table.cell("time")
    action, value = table.cell("action"), table.cell("value")
    fixed = table.how.action or Action.RATING

    def event(c: tuple[object, ...]) -> Event:
        act = fixed if action is None else c[action]
        return build(_at(c, user), _at(c, item), act, _at(c, value), _at(c, moment))

    return parse(table.source.read(tuple(table.columns.values())), event)


def _items(table: _Table) -> Iterator[Row[Item] | Reject]:
    places = {name: table.cell(name) for name in ("item", "title", "description", "categories", "available")}
    created, attributes = table.cell("created"), table.attributes()

    def item(c: tuple[object, ...]) -> Item:
        born = _at(c, created)
        return records.item(
            _at(c, places["item"]),
            title=_at(c, places["title"]),
            description=_at(c, places["description"]),
            categories=_at(c, places["categories"]),
            attributes=attributes(c),
            available=_at(c, places["available"]),
            created_ms=0 if born in (None, "") else fields.time_ms("created", born, table.unit, table.now_ms),
            separator=table.how.separator,
        )

    return parse(table.source.read(tuple(table.columns.values())), item)


def _users(table: _Table) -> Iterator[Row[User] | Reject]:
    user, attributes = table.cell("user"), table.attributes()
    raw = table.source.read(tuple(table.columns.values()))
    return parse(raw, lambda c: records.user(_at(c, user), attributes(c)))


def _relations(table: _Table) -> Iterator[Row[Relation] | Reject]:
    user, other, since = table.cell("user"), table.cell("other"), table.cell("time")
    kind, weight = table.cell("kind"), table.cell("weight")

    def relation(c: tuple[object, ...]) -> Relation:
        from_cell = _at(c, since)
        empty = from_cell in (None, "")
        return records.relation(
            _at(c, user),
            _at(c, other),
            kind=_at(c, kind),
            weight=_at(c, weight),
            time_ms=0 if empty else fields.time_ms("time", from_cell, table.unit, table.now_ms),
        )

    return parse(table.source.read(tuple(table.columns.values())), relation)


def _at(cells: tuple[object, ...], place: int | None) -> object:
    return None if place is None else cells[place]


def _takes(kind: str, name: str) -> bool:
    if name.startswith(_ATTRIBUTE):
        return kind in ("items", "users")
    return name in _FIELDS[kind] or f"{name}!" in _FIELDS[kind]
