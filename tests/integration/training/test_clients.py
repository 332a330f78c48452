"""Training's snapshot of a real feature service on a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.training.assemble import assemble
from services.training.clients import snapshot_of_service
from services.training.roles import RoleSettings
from services.training.snapshot import (
    SnapshotWriter,
    event_shards,
    is_whole,
    read_tables,
    snapshot_counts,
)
from shared.domain import Action, Event, Item, Relation, User
from shared.errors import WarmstartError
from shared.rpc.codec import encode_event, encode_item, encode_relation, encode_user
from tests.integration.features.client import RECORDED
from tests.integration.features.conftest import serving, shared_encoder
from tests.ports import free_port
from tests.valkey import RunningValkey, running_valkey

DOMAIN = "training"
ITEMS = [
    Item("b", "Bread", "How to bake it", ("cooking",)),
    Item("a", "Apollo 13", "", ("space", "drama")),
    Item("c"),
]
EVENTS = [
    Event("u", "b", Action.RATING, 4.0, 5_000, "e1"),
    Event("u", "a", Action.LIKE, 0.0, 5_000, "e2"),
    Event("u", "c", Action.DISLIKE, 0.0, 4_000, "e3"),
    Event("v", "a", Action.PURCHASE, 0.0, 9_000, "e4"),
    Event("v", "b", Action.IMPRESSION, 0.0, 9_500, "e5"),
]


@pytest.fixture(scope="module")
def valkey() -> Iterator[RunningValkey]:
    with running_valkey() as server:
        yield server


async def test_everything_that_training_reads_comes_out_of_the_feature_service(
    valkey: RunningValkey, tmp_path: Path
) -> None:
    told: list[int] = []
    async with serving(valkey, DOMAIN) as features:
        await features.put(*(encode_item(item) for item in ITEMS))
        people = [User("u", {"age": "25-34"}), User("w", {"age": "18-24"})]
        await features.ask("UpsertUsers", users=[encode_user(user) for user in people])
        await features.relate(encode_relation(Relation("u", "v", weight=0.5, time_ms=7)))
        assert await features.record(*(encode_event(event) for event in EVENTS)) == [RECORDED] * 5
        with SnapshotWriter(tmp_path, 2) as writer:
            await snapshot_of_service(
                features.address, DOMAIN, writer, lambda done, _: told.append(done), tls=None
            )
    assert is_whole(tmp_path)
    assert snapshot_counts(tmp_path) == {"events": 4, "items": 3, "users": 2, "relations": 1}
    assert told[-1] == 10
    events = pa.concat_tables(pq.read_table(path) for path in event_shards(tmp_path))
    data = assemble(read_tables(tmp_path, events), RoleSettings())
    assert data.user_ids == ("u", "v", "w")
    assert data.item_ids == ("a", "b", "c")
    assert data.titles == ("Apollo 13", "Bread", "")
    assert data.categories == (("space", "drama"), ("cooking",), ())
    # Oldest first; the tie keeps the order of recording; the impression is no part of the history.
    assert data.items.tolist() == [2, 1, 0, 0]
    assert data.actions.tolist() == [Action.DISLIKE, Action.RATING, Action.LIKE, Action.PURCHASE]
    assert data.values.tolist() == [0.0, 4.0, 0.0, 0.0]
    assert data.profiles == ({"age": "25-34"}, {}, {"age": "18-24"})
    assert data.neighbours.users.tolist() == [1]
    assert data.neighbours.since_ms.tolist() == [7]
    expected = shared_encoder().encode_items([ITEMS[1], ITEMS[0]])
    np.testing.assert_allclose(data.content[:2], expected, atol=1e-3)
    assert not data.content[2].any()


async def test_a_service_that_is_away_is_an_error_and_leaves_no_whole_snapshot(tmp_path: Path) -> None:
    with pytest.raises(WarmstartError):
        with SnapshotWriter(tmp_path, 1) as writer:
            await snapshot_of_service(
                f"127.0.0.1:{free_port()}", DOMAIN, writer, lambda done, total: None, tls=None
            )
    assert not is_whole(tmp_path)
