"""People's files: CSV, JSON Lines, Parquet, compressed; and the words that say how they are to be read.

What a reader accepts, the servers accept: each row goes through the codec of its message.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from services.cli.reading import Reading
from shared.datasets import Columns, Dataset, FileOptions, Row, load_files
from shared.datasets.fields import TimeUnit
from shared.domain import Event, Item, Relation, User
from shared.errors import InvalidInput, TooLarge
from shared.rpc import codec
from tests.fuzz.targets.base import NOW_MS, Target, Wrong, scratch

KINDS = ("events", "items", "users", "relations")
_OPTIONS = (
    FileOptions(),
    FileOptions(unit=TimeUnit.ISO, rating_scale=(0.0, 10.0), separator=","),
    FileOptions(unit=TimeUnit.NANOSECONDS),
    FileOptions(unit=TimeUnit.SECONDS, rating_scale=(-1e300, 1e300)),
)
_MAPPINGS = (Columns(), Columns.parse(["items.attribute.brand=maker,events.time=when"]))
_MAX_ROWS = 2000
_SEEDS = {
    "events": "user,item,action,value,time\nann,red,like,,2024-05-01T10:00:00Z\n"
    "bob,blue,rating,4.5,1714557600\n",
    "items": 'item,title,categories,available,created\nred,"Red, running",shoes|sport,true,1714557600000\n',
    "users": "user,age,country\nann,33,NL\n",
    "relations": "user,other,kind,weight,time\nann,bob,trusts,0.5,1714557600000\n",
}
_DEEP = "[" * 990 + "]" * 990
_LINES = {
    "events": '{"user": "ann", "item": 7, "action": "dwell", "value": 3.5, "time": 1714557600}\n',
    "items": '{"item": "red", "title": "Red", "categories": ["shoes"], '
    '"attributes": {"maker": 1, "x": true}}\n',
    "users": '{"user": "ann", "attributes": {"age": 33}}\n',
    "relations": '{"user": "ann", "other": "bob", "since": "2024-05-01"}\n',
}
_ENCODE: dict[type, Callable[[Any], object]] = {
    Event: lambda v: codec.decode_event(codec.encode_event(v), field="event", now_ms=NOW_MS),
    Item: lambda v: codec.decode_item(codec.encode_item(v), field="item"),
    User: lambda v: codec.decode_user(codec.encode_user(v), field="user"),
    Relation: lambda v: codec.decode_relation(codec.encode_relation(v), field="relation"),
}


def read_rows(dataset: Dataset, kinds: tuple[str, ...] = KINDS) -> None:
    """All rows, each accepted one through its codec; a rejected one says what is wrong with it."""
    for kind in kinds:
        for count, row in enumerate(getattr(dataset, kind)()):
            if count > _MAX_ROWS:
                return
            if isinstance(row, Row):
                take(row.value)
            elif not row.reason or row.number < 1:
                raise Wrong(f"a rejected row says nothing: {row}")


def take(value: Any) -> None:
    """As a server would."""
    try:
        decoded = _ENCODE[type(value)](value)
    except (InvalidInput, TooLarge) as error:
        raise Wrong(f"a row was read that no server takes: {error}") from error
    if isinstance(value, Event) and decoded != value:
        raise Wrong(f"read {value}, taken as {decoded}")


def _file(ending: str, data: bytes, number: int) -> None:
    """number: which kind of file, and how it is read."""
    path = scratch() / f"file{ending}"
    path.write_bytes(data)
    kind = KINDS[number % 4]
    mapping, options = _MAPPINGS[number // 4 % 2], _OPTIONS[number // 8 % 4]
    dataset = load_files({kind: path}, mapping, options, now_ms=NOW_MS)
    read_rows(dataset, (kind,))
    dataset.sizes[kind]()


def _text(*endings: str) -> Callable[[bytes], None]:
    def read(case: bytes) -> None:
        number = case[0] if case else 0
        _file(endings[number // 32 % len(endings)], case[1:], number)

    return read


def _rows_of(texts: dict[str, str]) -> list[bytes]:
    return [bytes((number,)) + texts[kind].encode() for number, kind in enumerate(KINDS)]


def _hostile_lines() -> list[bytes]:
    """Also what is nested deeper than Python goes."""
    deep = (
        '{"user": ' + _DEEP + ', "item": 1, "time": 1}',
        "[" * 100_000,
        '{"user": "a", "item": 1, "time": 1e400}',
    )
    return [*_rows_of(_LINES), *(_rows_of(_LINES)[0] + line.encode() for line in deep)]


def _compressed(case: bytes) -> None:
    _text(".csv.gz", ".jsonl.bz2", ".csv.zst", ".csv.lz4")(case)


def _packed() -> list[bytes]:
    found = [text[:1] + gzip.compress(text[1:], mtime=0) for text in _rows_of(_SEEDS)]
    for place, codec_name in enumerate(("bz2", "zstd"), start=1):
        for number, kind in enumerate(KINDS[:2]):
            text = (_LINES if codec_name == "bz2" else _SEEDS)[kind].encode()
            packed = pa.compress(text, codec=codec_name, asbytes=True) if codec_name != "bz2" else _bz2(text)
            found.append(bytes((32 * place + number,)) + packed)
    return found


def _bz2(text: bytes) -> bytes:
    import bz2

    return bz2.compress(text)


def _parquet_bytes() -> list[bytes]:
    found = []
    for number, kind in enumerate(KINDS):
        rows = [json.loads(line) for line in _LINES[kind].splitlines()]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out)
        found.append(bytes((number,)) + out.getvalue())
    return found


# Columns that a writer of Parquet may well have made, and those that only a test makes.
_COLUMNS: tuple[tuple[Any, Any], ...] = (
    (pa.string(), ["a", "b", None, "2024-05-01", "x\x00y", "9" * 400]),
    (pa.int64(), [0, 1, 1714557600, 1714557600000, -1, 2**63 - 1]),
    (pa.uint64(), [2**64 - 1, 1, 5]),
    (pa.float64(), [0.5, float("nan"), float("inf"), 1e300, None, 3.0]),
    (pa.float16(), [1.5, 2.0]),
    (pa.bool_(), [True, False, None]),
    (pa.timestamp("s"), [1714557600, 2**40, -(2**40)]),
    (pa.timestamp("s"), [2**62, 1]),
    (pa.timestamp("ms", tz="UTC"), [1714557600000, 0]),
    (pa.timestamp("us", tz="+23:59"), [1714557600000000, -62135596800000000]),
    (pa.timestamp("ns"), [1714557600000000001, 1714557600000000000]),
    (pa.timestamp("us", tz="Nowhere/Nowhere"), [1714557600000000]),
    (pa.date32(), [19844, 2**31 - 1, -(2**31)]),
    (pa.date64(), [1714521600000]),
    (pa.time64("ns"), [1, 2]),
    (pa.duration("ns"), [1, 2]),
    (pa.binary(), [b"abc", b"\xff\xfe"]),
    (pa.large_string(), ["a"]),
    (pa.decimal128(38, 2), [Decimal("1.50"), Decimal("-9" + "9" * 30)]),
    (pa.list_(pa.string()), [["a", "b"], [], None, [None, ""]]),
    (pa.list_(pa.list_(pa.int8())), [[[1]], [[]]]),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 1, "b": "x"}, None]),
    (pa.map_(pa.string(), pa.string()), [[("a", "b")], [("a", None)], []]),
    (pa.map_(pa.int64(), pa.list_(pa.string())), [[(1, ["x"])]]),
    (pa.null(), [None]),
)  # fmt: skip
_BAD_TEXT = pa.array([b"\xff\xfe", b"ok"], pa.binary())
_NAMES = (
    "user", "item", "action", "value", "time", "title", "description", "categories", "available", "created",
    "attributes", "other", "kind", "weight", "maker", "when", "", "user_id",
)  # fmt: skip


def _table(case: bytes) -> None:
    """A table whose columns the case names: two bytes a column, its name and its type."""
    number, plan = (case[0], case[1:40]) if case else (0, b"")
    columns: list[Any] = []
    names: list[str] = []
    for place in range(0, len(plan) - 1, 2):
        names.append(_NAMES[plan[place] % len(_NAMES)])
        choice = plan[place + 1] % (len(_COLUMNS) + 1)
        if choice == len(_COLUMNS):
            columns.append(pa.StringArray.from_buffers(2, *_BAD_TEXT.buffers()[1:]))
        else:
            kind, values = _COLUMNS[choice]
            columns.append(_array(kind, values))
    rows = max((len(c) for c in columns), default=0)
    whole = [pa.concat_arrays([c] * (rows // max(len(c), 1) + 1)).slice(0, rows) for c in columns]
    out = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_arrays(whole, names=names), out)
    except (pa.ArrowException, TypeError, ValueError):
        return  # what cannot be written nobody has
    _file(".parquet", out.getvalue(), number)


def _array(kind: Any, values: list[Any]) -> Any:
    """Times by their numbers, so that they need not be ones that Python knows."""
    if pa.types.is_temporal(kind):
        width = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
        return pa.array(values, width).view(kind)
    return pa.array(values, kind)


def _plans() -> list[bytes]:
    """Well-formed ones of each kind, and every type in every place that reads it."""
    places = {
        "events": (0, 1, 2, 3, 4),
        "items": (1, 5, 7, 8, 9, 10),
        "users": (0, 10),
        "relations": (0, 11, 12, 13, 4),
    }
    well = {
        "events": (0, 0, 0, 3, 1),
        "items": (0, 0, 19, 5, 8, 21),
        "users": (0, 21),
        "relations": (0, 0, 0, 3, 8),
    }
    found = []
    for number, kind in enumerate(KINDS):
        pairs = list(zip(places[kind], well[kind], strict=True))
        for place in range(len(pairs)):
            for choice in range(len(_COLUMNS) + 1):
                plan = [(name, choice if place == at else usual) for at, (name, usual) in enumerate(pairs)]
                found.append(bytes((number,)) + bytes(byte for pair in plan for byte in pair))
    return found


def _options(case: bytes) -> None:
    """Lines of words, as a command line gives them."""
    words = [*case.decode("utf-8", "replace").split("\n"), "", "", "", "", ""]
    mapping = [word for word in words[4:] if word]
    Columns.parse(mapping)
    try:
        Reading(mapping, *words[:4]).options()
    except typer.BadParameter as error:
        raise InvalidInput.of("--", str(error), words) from error
    FileOptions.parse(action=words[0], time_unit=words[1], rating_scale=words[2], separator=words[3])


def _words(case: bytes, rng: Random) -> bytes:
    """Another word in one of the lines."""
    lines = case.decode("utf-8", "replace").split("\n")
    pool = (
        "like",
        "s",
        "ns",
        "1:5",
        "5:1",
        "nan:nan",
        "-inf:inf",
        "1:1e999",
        "|",
        "item=a,item=b",
        "attribute.=x",
    )
    lines[rng.randrange(len(lines))] = rng.choice(pool)
    return "\n".join(lines).encode()


TARGETS = (
    Target("csv", _text(".csv", ".tsv"), lambda: _rows_of(_SEEDS)),
    Target("json-lines", _text(".jsonl"), _hostile_lines),
    Target("compressed", _compressed, _packed),
    Target("parquet-bytes", _text(".parquet"), _parquet_bytes, max_bytes=8192),
    Target("parquet-tables", _table, _plans, max_bytes=40),
    Target(
        "reading-options",
        _options,
        lambda: [b"like\nms\n1:10\n|\nuser=uid,item=sku\nitems.title=name"],
        _words,
    ),
)
