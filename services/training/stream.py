"""People from disk, a window at a time, by Ray Data: training on more people than fit into a worker's memory.

Ray's tasks, on whatever cores and machines there are, read the groups of a window (see `prepare`), leave out
who is not trained on and number the items; the worker shuffles what comes and takes its share of each batch
(see `stream_plan`). What comes for a step is a function of the seed and the step, as with data in memory.

Relations do not come along: a person's neighbours may be in any group, so social profiles are zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.training.data import Int64Array, Neighbours, TrainingData, offsets_of
from services.training.prepare import prepared_shards
from services.training.roles import RoleSettings, assign_roles
from services.training.stream_plan import StreamPlan, Window
from shared.context.vectors import PROFILE_DIM, attribute_vector
from shared.domain import IntArray
from shared.holdout import Role

# An event must follow a window's cut.
_FEWEST_EVENTS = 2
# Of windows that were read ahead, in Ray's object store.
_AHEAD_BYTES = 256 << 20
_READERS = 2
_EVENT_COLUMNS = {"item_id": "items", "action": "actions", "value": "values", "time_ms": "time_ms"}


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """A step's people. data: everybody of the window, and the whole catalogue; users: [B] int32, those whose
    turn it is, as numbers in the data."""

    data: TrainingData
    users: IntArray


@dataclass(frozen=True, slots=True)
class Group:
    """A row group of both files of a shard, and how many of its people are trained on."""

    events: str
    people: str
    number: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredPeople:
    """What is streamed. nobody: the data of the catalogue without people."""

    groups: tuple[Group, ...]
    nobody: TrainingData
    roles: RoleSettings

    @property
    def sizes(self) -> Int64Array:
        """[G] int64: people of each group, for a StreamPlan."""
        return np.array([group.size for group in self.groups], np.int64)

    def value_set(self) -> pa.Array:
        """[N] string: an item's place here is its number."""
        return pa.array(self.nobody.item_ids, pa.string())


# The people of each window, in order: see `_read_group` for the columns.
Reader = Callable[[StoredPeople, Sequence[Window]], Iterable[pa.Table]]


def stored_people(prepared: Path, roles: RoleSettings, catalogue: TrainingData) -> StoredPeople:
    """Counts who is trained on, group by group. catalogue: whoever's data, on the whole of it."""
    shards = zip(prepared_shards(prepared, "events"), prepared_shards(prepared, "people"), strict=True)
    groups = [
        Group(str(events), str(people), number, size)
        for events, people in shards
        for number, size in enumerate(_sizes(people, roles))
    ]
    nobody = catalogue.select_users(np.zeros(catalogue.num_users, np.bool_))
    return StoredPeople(tuple(groups), nobody, roles)


def steps(
    stored: StoredPeople, plan: StreamPlan, first: int, total: int, read: Reader | None = None
) -> Iterator[tuple[int, People]]:
    """(step, its people) of this worker, for steps `first` … `total − 1`.

    plan: of `stored.sizes`; read: by Ray Data, which needs a Ray session, where not given. Memory holds the
    window at hand and what is read ahead.
    """
    windows = list(plan.windows(first, total))
    for window, table in zip(windows, (read or read_by_ray)(stored, windows), strict=True):
        data, order = _data_of(table, stored.nobody), plan.order(window)
        for batch in range(window.batches):
            step = window.first_step + batch
            if first <= step < total:
                yield step, People(data, order[batch * plan.share : (batch + 1) * plan.share])


def read_by_ray(stored: StoredPeople, windows: Sequence[Window]) -> Iterator[pa.Table]:
    """The people of each window, in order, read ahead by Ray's tasks."""
    import ray
    from ray.data import DataContext, ExecutionResources

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=_AHEAD_BYTES
    )
    rows = [{"window": at, "groups": list(window.groups)} for at, window in enumerate(windows)]
    with DataContext.current(context):
        reading = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _read_window,
            fn_args=(ray.put(stored.groups), ray.put(stored.value_set()), stored.roles),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=0,  # training's workers hold the cores; reading goes on beside them
            concurrency=_READERS,
        )
    yield from _whole_windows(reading.iter_batches(batch_size=None, batch_format="pyarrow"))


def read_here(stored: StoredPeople, windows: Sequence[Window]) -> Iterator[pa.Table]:
    """The same by this process alone, when it is asked."""
    item_ids = stored.value_set()
    for window in windows:
        yield _read_groups([stored.groups[number] for number in window.groups], item_ids, stored.roles)


def _whole_windows(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Ray Data may cut a large window into several blocks: one table each."""
    for _, parts in groupby(tables, key=lambda table: table["window"][0].as_py()):
        yield pa.concat_tables(parts)


def _data_of(table: pa.Table, nobody: TrainingData) -> TrainingData:
    """The people of one window as training reads them."""
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    size = table.num_rows
    return replace(
        nobody,
        user_ids=tuple(columns["user_id"].to_pylist()),
        offsets=offsets_of(columns["items"].value_lengths().to_numpy()),
        **{name: columns[name].flatten().to_numpy() for name in ("items", "actions", "values", "time_ms")},
        attributes=columns["attributes"].flatten().to_numpy().reshape(size, PROFILE_DIM),
        profiles=({},) * size,
        neighbours=Neighbours.none(size),
        roles=np.full(size, Role.TRAIN, np.int8),
    )


def _read_window(batch: pa.Table, groups: Any, item_ids: Any, roles: RoleSettings) -> pa.Table:
    """One row with the groups of a window → its people, marked by the window."""
    import ray

    known, ids = ray.get([groups, item_ids])
    (window,), (numbers,) = batch["window"].to_pylist(), batch["groups"].to_pylist()
    people = _read_groups([known[number] for number in numbers], ids, roles)
    return people.append_column("window", pa.array(np.full(people.num_rows, window, np.int32)))


def _read_groups(groups: Sequence[Group], item_ids: pa.Array, roles: RoleSettings) -> pa.Table:
    return pa.concat_tables([_read_group(group, item_ids, roles) for group in groups])


def _read_group(group: Group, item_ids: pa.Array, roles: RoleSettings) -> pa.Table:
    """A row for each person of one group that is trained on: their events as lists, oldest first."""
    with pq.ParquetFile(group.people) as file:
        people = file.read_row_group(group.number)
    with pq.ParquetFile(group.events) as file:
        events = file.read_row_group(group.number, columns=list(_EVENT_COLUMNS))
    counts = people["events"].to_numpy()
    kept = _trained(people, roles)
    events, people = events.filter(pa.array(np.repeat(kept, counts))), people.filter(pa.array(kept))
    events = events.set_column(0, "item_id", pc.index_in(events["item_id"], item_ids))
    offsets = pa.array(offsets_of(counts[kept]), pa.int32())
    lists = {
        name: pa.ListArray.from_arrays(offsets, events[column].combine_chunks())
        for column, name in _EVENT_COLUMNS.items()
    }
    profiles = [attribute_vector(dict(pairs or ())) for pairs in people["attributes"].to_pylist()]
    flat = pa.array(np.concatenate([np.zeros(0, np.float32), *profiles]), pa.float32())
    attributes = pa.FixedSizeListArray.from_arrays(flat, PROFILE_DIM)
    return pa.table({"user_id": people["user_id"], **lists, "attributes": attributes})


def _sizes(people: Path, roles: RoleSettings) -> list[int]:
    """People of each row group that are trained on."""
    with pq.ParquetFile(people) as file:
        groups = (file.read_row_group(n, columns=["user_id", "events"]) for n in range(file.num_row_groups))
        return [int(_trained(group, roles).sum()) for group in groups]


def _trained(people: pa.Table, roles: RoleSettings) -> Any:
    """[P] bool: who is trained on and has something to predict."""
    role = assign_roles(people["user_id"].to_pylist(), roles)
    return (role == Role.TRAIN) & (people["events"].to_numpy() >= _FEWEST_EVENTS)
