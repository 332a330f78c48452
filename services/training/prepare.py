"""Prepare: the event log → everybody's sequences, by Ray Data, one block a shard.

A snapshot keeps each person's events in one shard, so that no shuffle is needed: the work is a map
over shards, on as many cores or machines as there are, each of which writes its own files.

events/shard-NNNN.parquet   a row an event, per person oldest first, ties in the order of the log
people/shard-NNNN.parquet   a row a person, in the same order: user_id, events, attributes
items.parquet               the distinct items of all events; written last

Both files of a shard have the same row groups of whole people, so that a few people can be read alone.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.training.assemble import EVENT_SCHEMA, assemble, normalise_events, to_sequences
from services.training.data import TrainingData
from services.training.roles import RoleSettings, choose_by_hash
from services.training.snapshot import event_shards, read_tables

GROUP_PEOPLE = 256
PEOPLE_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("events", pa.int64()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
_ITEMS = "items.parquet"


def prepare(snapshot: Path, prepared: Path) -> None:
    """Writes the files. Needs a Ray session."""
    import ray
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    for table in ("events", "people"):
        (prepared / table).mkdir(parents=True, exist_ok=True)
    shards = [{"path": str(path), "prepared": str(prepared)} for path in event_shards(snapshot)]
    dataset = ray.data.from_items(shards, override_num_blocks=len(shards))
    items = ray.get(dataset.map_batches(_prepare_shard, batch_size=1, batch_format="pyarrow").to_arrow_refs())
    ids = pc.unique(pa.chunked_array([table["item_id"].combine_chunks() for table in items], pa.string()))
    fresh = prepared / f".{_ITEMS}"
    pq.write_table(pa.table({"item_id": ids.sort()}), fresh)
    fresh.replace(prepared / _ITEMS)


def is_prepared(prepared: Path) -> bool:
    return (prepared / _ITEMS).is_file()


def load_prepared(snapshot: Path, prepared: Path, roles: RoleSettings, most_people: int = 0) -> TrainingData:
    """The data of a prepared run in memory: of everybody, or of `most_people`, chosen by hash (0 = all). The
    catalogue is whole in any case."""
    shards = prepared_shards(prepared, "events")
    if not most_people or count_people(prepared) <= most_people:
        events = pa.concat_tables([pq.read_table(path) for path in shards])
        return assemble(read_tables(snapshot, events), roles)
    people = [pq.read_table(path, columns=["user_id"]) for path in prepared_shards(prepared, "people")]
    ids = pa.concat_tables(people)["user_id"].to_pylist()
    items = pq.read_table(prepared / _ITEMS)["item_id"].to_pylist()
    kept = pa.array(choose_by_hash(ids, most_people, "memory"), pa.string())
    events = pa.concat_tables([_of(pq.read_table(path), kept) for path in shards])
    tables = read_tables(snapshot, events)
    tables = replace(tables, users=_of(tables.users, kept), relations=_of(tables.relations, kept))
    return assemble(tables, roles, items)


def count_people(prepared: Path) -> int:
    """How many have events; without reading them."""
    return sum(pq.read_metadata(path).num_rows for path in prepared_shards(prepared, "people"))


def _of(table: pa.Table, people: pa.Array) -> pa.Table:
    """The rows of these people."""
    return table.filter(pc.is_in(table["user_id"], people))


def prepared_shards(prepared: Path, table: str) -> list[Path]:
    """The files of `events` or of `people`; equal places are the same people."""
    return sorted((prepared / table).glob("shard-*.parquet"))


def _prepare_shard(batch: pa.Table) -> pa.Table:
    """One row with a shard's path → its files; returns the items in it."""
    (path,), (prepared,) = (Path(p) for p in batch["path"].to_pylist()), batch["prepared"].to_pylist()
    sequences = to_sequences(normalise_events(pq.read_table(path)))
    people = _people(sequences, path.parent.parent)
    ends = np.cumsum(people["events"].to_numpy())
    # The last group takes the rest: a tiny one would be no use.
    starts = range(0, max(people.num_rows - GROUP_PEOPLE, 0) + 1, GROUP_PEOPLE) if people.num_rows else ()
    groups = list(pairwise([*starts, people.num_rows]))
    names = {"events": EVENT_SCHEMA, "people": PEOPLE_SCHEMA}
    writers = {n: pq.ParquetWriter(Path(prepared) / n / path.name, schema) for n, schema in names.items()}
    for first, end in groups:
        start = int(ends[first - 1]) if first else 0
        rows = int(ends[end - 1]) - start
        writers["events"].write_table(sequences.slice(start, rows), row_group_size=rows)
        writers["people"].write_table(people.slice(first, end - first))
    for writer in writers.values():
        writer.close()
    return pa.table({"item_id": pc.unique(sequences["item_id"])})


def _people(sequences: pa.Table, snapshot: Path) -> pa.Table:
    """A row for each person of some sequences, in their order."""
    runs = pc.run_end_encode(sequences["user_id"].combine_chunks())
    ids, ends = runs.values, runs.run_ends.to_numpy()
    users = pq.read_table(snapshot / "users.parquet")
    last = dict(zip(users["user_id"].to_pylist(), range(users.num_rows), strict=True))  # the last row counts
    known = pa.array([last.get(user_id) for user_id in ids.to_pylist()], pa.int64())
    attributes = users["attributes"].combine_chunks().take(known)
    return pa.table([ids, np.diff(ends, prepend=0), attributes], schema=PEOPLE_SCHEMA)
