"""A snapshot keeps everything that training reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.training.assemble import assemble
from services.training.roles import RoleSettings
from services.training.settings import SourceSettings
from services.training.snapshot import (
    SnapshotWriter,
    event_shards,
    is_whole,
    read_tables,
    snapshot_counts,
    snapshot_of_dataset,
)
from services.training.sources import open_source
from shared.domain import Action, Event, FloatArray, Item, Relation, User
from shared.errors import InvalidInput
from tests.unit.services.training import synthetic


def encode(items: Sequence[Item]) -> FloatArray:
    return np.full((len(items), 4), 0.5, np.float32)


def written(directory: Path) -> pa.Table:
    with SnapshotWriter(directory, 3) as writer:
        assert not is_whole(directory)
        writer.add_events(
            [Event("u", "b", Action.LIKE, 0.0, 9), Event("v", "a", Action.RATING, 4.0, 9, "e1")]
        )
        writer.add_events([Event("u", "a", Action.LIKE, 0.0, 9)])
        writer.add_items([Item("a", "A", categories=("x", "y")), Item("b")], [np.ones(4, np.float32), None])
        writer.add_users([User("u", {"age": "9"})])
        writer.add_relations([Relation("u", "v", weight=0.5, time_ms=3)])
    return pa.concat_tables(pq.read_table(path) for path in event_shards(directory))


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    data = assemble(read_tables(tmp_path, written(tmp_path)), RoleSettings())
    assert is_whole(tmp_path)
    assert snapshot_counts(tmp_path) == {"events": 3, "items": 2, "users": 1, "relations": 1}
    assert data.user_ids == ("u", "v")
    # Ties in time keep the order in which events came, also over batches.
    assert [data.item_ids[i] for i in data.items[:2]] == ["b", "a"]
    assert data.values[2] == 4.0
    assert data.profiles == ({"age": "9"}, {})
    assert data.categories == (("x", "y"), ())
    np.testing.assert_array_equal(data.content, [[1, 1, 1, 1], [0, 0, 0, 0]])
    assert data.neighbours.users.tolist() == [1]
    assert data.neighbours.weights.tolist() == [0.5]
    assert data.neighbours.since_ms.tolist() == [3]


def test_each_person_is_in_one_shard(tmp_path: Path) -> None:
    written(tmp_path)
    shards = [set(pq.read_table(p)["user_id"].to_pylist()) for p in event_shards(tmp_path)]
    assert len(shards) == 3
    assert sum(len(s) for s in shards) == 2


def test_a_failed_copy_is_not_whole(tmp_path: Path) -> None:
    def copy() -> None:
        with SnapshotWriter(tmp_path, 1) as writer:
            writer.add_users([User("u")])
            raise RuntimeError("connection lost")

    with pytest.raises(RuntimeError, match="connection lost"):
        copy()
    assert not is_whole(tmp_path)


def test_files_are_copied_with_their_rejects_told(tmp_path: Path) -> None:
    files = synthetic.write_files(tmp_path, people=6, events=4)
    with files["events"].open("a") as file:
        file.write('"u000","i001","rating",99,1600000000000\n')
    source = SourceSettings(events=str(files["events"]), items=str(files["items"]))
    told: list[tuple[int, int]] = []
    with SnapshotWriter(tmp_path / "snapshot", 2) as writer:
        rejects = snapshot_of_dataset(
            open_source(source), writer, encode, lambda done, total: told.append((done, total))
        )
    assert [r.number for r in rejects] == [25]
    assert "value" in rejects[0].reason
    assert snapshot_counts(tmp_path / "snapshot")["events"] == 24
    assert told[-1][0] == 60 + 24


def test_a_number_of_shards_below_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="num_shards must be at least 1, got 0"):
        SnapshotWriter(tmp_path, 0)
