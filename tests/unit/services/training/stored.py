"""The synthetic world as `prepare` stores it, without Ray."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.training.prepare import _prepare_shard
from services.training.snapshot import SnapshotWriter, event_shards
from shared.domain import Action, Event, Item, User
from tests.unit.services.training import synthetic


def store(
    directory: Path, people: int, events: int = 12, items: int = 60, shards: int = 2
) -> tuple[Path, Path]:
    """Snapshot and prepared directory. Every person has an attribute, some items no events."""
    snapshot, prepared = directory / "snapshot", directory / "prepared"
    log = [Event(u, i, Action.RATING, v, t) for u, i, _, v, t in synthetic.rows(people, events, items)]
    with SnapshotWriter(snapshot, shards) as writer:
        writer.add_events(log)
        writer.add_items([Item("never-seen", "Never seen")], [None])
        writer.add_users([User(f"u{n:03d}", {"number": str(n)}) for n in range(people)])
    for table in ("events", "people"):
        (prepared / table).mkdir(parents=True)
    ids = set()
    for shard in event_shards(snapshot):
        found = _prepare_shard(pa.table({"path": [str(shard)], "prepared": [str(prepared)]}))
        ids |= set(found["item_id"].to_pylist())
    pq.write_table(pa.table({"item_id": sorted(ids)}), prepared / "items.parquet")
    return snapshot, prepared
