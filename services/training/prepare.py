"""Prepare: the event log → everybody's sequences, by Ray Data, one block a shard.

A snapshot keeps each person's events in one shard, so that no shuffle is needed: the work is a map
over shards, on as many cores or machines as there are.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.training.assemble import assemble, normalise_events, to_sequences
from services.training.data import TrainingData
from services.training.roles import RoleSettings
from services.training.snapshot import event_shards, read_tables

_SEQUENCES = "sequences.parquet"


def prepare(snapshot: Path, prepared: Path) -> None:
    """Writes `prepared/sequences.parquet`: per person oldest first, ties in the order of the log.

    Needs a Ray session.
    """
    import ray
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    shards = [{"path": str(path)} for path in event_shards(snapshot)]
    dataset = ray.data.from_items(shards, override_num_blocks=len(shards))
    sequences = dataset.map_batches(_sequences_of_shard, batch_size=1, batch_format="pyarrow")
    tables = ray.get(sequences.to_arrow_refs())
    prepared.mkdir(parents=True, exist_ok=True)
    fresh = prepared / f".{_SEQUENCES}"
    pq.write_table(pa.concat_tables(t for t in tables if t.num_rows), fresh)
    fresh.replace(prepared / _SEQUENCES)


def is_prepared(prepared: Path) -> bool:
    return (prepared / _SEQUENCES).is_file()


def load_prepared(snapshot: Path, prepared: Path, roles: RoleSettings) -> TrainingData:
    """The data of a prepared run."""
    return assemble(read_tables(snapshot, pq.read_table(prepared / _SEQUENCES)), roles)


def _sequences_of_shard(batch: pa.Table) -> pa.Table:
    """One row with a path → the shard's sequences."""
    (path,) = batch["path"].to_pylist()
    return to_sequences(normalise_events(pq.read_table(path)))
