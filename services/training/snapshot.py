"""A snapshot of everything that one training reads, as Parquet in the run's directory.

events/shard-0000.parquet …   each person's events in one shard, in the order they came
items.parquet  users.parquet  relations.parquet
snapshot.json                 counts and generation; written last: without it the snapshot is not whole
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.training.assemble import EVENT_SCHEMA, Tables
from services.training.runs import write_atomically
from shared.datasets import Dataset, Reject
from shared.domain import Event, FloatArray, Item, Relation, User
from shared.errors import InvalidInput
from shared.holdout import hash_share

T = TypeVar("T")
ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("embedding", pa.list_(pa.float32())),
    ]
)
USER_SCHEMA = pa.schema([("user_id", pa.string()), ("attributes", pa.map_(pa.string(), pa.string()))])
RELATION_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("other_user_id", pa.string()),
        ("weight", pa.float32()),
        ("time_ms", pa.int64()),
        ("removed", pa.bool_()),
    ]
)
_BATCH_ROWS = 20_000
_WHOLE, _GENERATION = "snapshot.json", "generation"
USERS, RELATIONS = "users.parquet", "relations.parquet"


class Encoder(Protocol):
    """Embeds items' text; see `shared.content`."""

    def __call__(self, items: Sequence[Item]) -> FloatArray: ...


class SnapshotWriter:
    """Writes a snapshot batch by batch; memory stays bounded by one batch. Use as a context manager."""

    def __init__(self, directory: Path, num_shards: int) -> None:
        if num_shards < 1:
            raise InvalidInput.of("num_shards", "must be at least 1", num_shards)
        self._directory = directory
        (directory / "events").mkdir(parents=True, exist_ok=True)
        (directory / _WHOLE).unlink(missing_ok=True)
        for stale in (directory / "events").glob("*.parquet"):
            stale.unlink()
        self._shards = [
            pq.ParquetWriter(directory / "events" / f"shard-{n:04d}.parquet", EVENT_SCHEMA)
            for n in range(num_shards)
        ]
        self._tables = {
            name: pq.ParquetWriter(directory / f"{name}.parquet", schema)
            for name, schema in (
                ("items", ITEM_SCHEMA),
                ("users", USER_SCHEMA),
                ("relations", RELATION_SCHEMA),
            )
        }
        self.counts = {"events": 0, "items": 0, "users": 0, "relations": 0}

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        for writer in (*self._shards, *self._tables.values()):
            writer.close()
        if failure is None:
            note_whole(self._directory, self.counts)

    def add_events(self, events: Sequence[Event]) -> None:
        """Appends events; their order here is the order that ties in time keep."""
        shards = np.array([int(hash_share(e.user_id, "shard") * len(self._shards)) for e in events], np.int64)
        table = pa.table(
            [
                [e.user_id for e in events],
                [e.item_id for e in events],
                [int(e.action) for e in events],
                [e.value for e in events],
                [e.time_ms for e in events],
                [e.event_id or None for e in events],
                range(self.counts["events"], self.counts["events"] + len(events)),
            ],
            schema=EVENT_SCHEMA,
        )
        for shard in np.unique(shards):
            self._shards[shard].write_table(table.filter(pa.array(shards == shard)))
        self.counts["events"] += len(events)

    def add_items(self, items: Sequence[Item], embeddings: Sequence[FloatArray | None]) -> None:
        """Appends items with their content embedding, where they have one."""
        rows = [
            {
                "item_id": i.item_id,
                "title": i.title,
                "description": i.description,
                "categories": list(i.categories),
                "embedding": e,
            }
            for i, e in zip(items, embeddings, strict=True)
        ]
        self._add("items", rows, ITEM_SCHEMA)

    def add_users(self, users: Sequence[User]) -> None:
        rows = [{"user_id": u.user_id, "attributes": list(u.attributes.items())} for u in users]
        self._add("users", rows, USER_SCHEMA)

    def add_relations(self, relations: Sequence[Relation]) -> None:
        rows = [
            {
                "user_id": r.user_id,
                "other_user_id": r.other_user_id,
                "weight": r.weight,
                "time_ms": r.time_ms,
                "removed": r.removed,
            }
            for r in relations
        ]
        self._add("relations", rows, RELATION_SCHEMA)

    def _add(self, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        self._tables[name].write_table(pa.Table.from_pylist(rows, schema=schema))
        self.counts[name] += len(rows)


class CountProgress(Protocol):
    """Told how many rows of how many (0 = unknown) have been copied."""

    def __call__(self, done: int, total: int) -> None: ...


def snapshot_of_dataset(
    dataset: Dataset, writer: SnapshotWriter, encode: Encoder, progress: CountProgress
) -> list[Reject]:
    """Copies a data set; items' text is embedded on the way. Returns the rows that could not be used."""
    rejects: list[Reject] = []
    total = sum(size() for size in dataset.sizes.values())
    done = 0

    def told(batch: list[T]) -> list[T]:
        nonlocal done
        done += len(batch)
        progress(done, total)
        return batch

    for items in _batches(_good(dataset.items(), rejects)):
        writer.add_items(told(items), list(encode(items)))
    for users in _batches(_good(dataset.users(), rejects)):
        writer.add_users(told(users))
    for relations in _batches(_good(dataset.relations(), rejects)):
        writer.add_relations(told(relations))
    for events in _batches(_good(dataset.events(), rejects)):
        writer.add_events(told(events))
    return rejects


def _good(rows: Iterable[Any], rejects: list[Reject]) -> Iterator[Any]:
    for row in rows:
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            yield row.value


def _batches(rows: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch


def is_whole(directory: Path) -> bool:
    """Whether a snapshot was written to its end."""
    return (directory / _WHOLE).is_file()


def note_whole(directory: Path, counts: Mapping[str, int]) -> None:
    """Marks the snapshot as whole, and as of another generation than before."""
    noted = {**counts, _GENERATION: secrets.token_hex(8)}
    write_atomically(directory / _WHOLE, json.dumps(noted).encode())


def snapshot_counts(directory: Path) -> dict[str, int]:
    """Rows by table. The snapshot must be whole."""
    return {name: count for name, count in _noted(directory).items() if name != _GENERATION}


def generation_of(directory: Path) -> str:
    """Names what is in the snapshot: another one whenever rows were taken out, "" where an earlier version
    wrote it. The snapshot must be whole."""
    return str(_noted(directory).get(_GENERATION, ""))


def _noted(directory: Path) -> dict[str, Any]:
    noted: dict[str, Any] = json.loads((directory / _WHOLE).read_text())
    return noted


def event_shards(directory: Path) -> list[Path]:
    """The files with the events, each person's in one of them."""
    return sorted((directory / "events").glob("shard-*.parquet"))


def read_tables(directory: Path, events: pa.Table) -> Tables:
    """The snapshot's other tables beside given events."""
    others = ("items", "users", "relations")
    return Tables(events, **{name: pq.read_table(directory / f"{name}.parquet") for name in others})
