"""Tables → `TrainingData`. Tables come from the feature service's export or from files.

events     user_id, item_id, action, value, time_ms [, event_id] [, file_order]
items      item_id [, title, categories, embedding]
users      user_id [, attributes: map, or list of pairs]
relations  user_id, other_user_id [, weight, time_ms, removed]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.training.data import Neighbours, TrainingData, offsets_of
from services.training.roles import RoleSettings, assign_roles
from shared.content import CONTENT_DIM
from shared.context.vectors import PROFILE_DIM, attribute_vector
from shared.domain import Action, FloatArray, IntArray
from shared.errors import InvalidInput

EVENT_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("action", pa.int32()),
        ("value", pa.float32()),
        ("time_ms", pa.int64()),
        ("event_id", pa.string()),
        ("file_order", pa.int64()),
    ]
)
_REQUIRED_EVENT_COLUMNS = ("user_id", "item_id", "action", "value", "time_ms")


@dataclass(frozen=True, slots=True)
class Tables:
    """The four tables of one snapshot; only events must be there."""

    events: pa.Table
    items: pa.Table | None = None
    users: pa.Table | None = None
    relations: pa.Table | None = None


def normalise_events(events: pa.Table) -> pa.Table:
    """Casts an event table to EVENT_SCHEMA; rows are numbered in `file_order` where they are not yet.

    Raises InvalidInput naming the column that is missing or holds something else.
    """
    missing = [c for c in _REQUIRED_EVENT_COLUMNS if c not in events.column_names]
    if missing:
        raise InvalidInput.of("events", f"must have columns {', '.join(missing)}", events.column_names)
    if "event_id" not in events.column_names:
        events = events.append_column("event_id", pa.nulls(events.num_rows, pa.string()))
    if "file_order" not in events.column_names:
        events = events.append_column("file_order", pa.array(np.arange(events.num_rows)))
    try:
        cast = events.select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInput.of("events", f"must fit {', '.join(EVENT_SCHEMA.names)}", str(error)) from error
    for name in _REQUIRED_EVENT_COLUMNS:
        if cast[name].null_count:
            raise InvalidInput.of(f"events.{name}", "must be filled in every row", cast[name].null_count)
    return cast


def to_sequences(events: pa.Table) -> pa.Table:
    """Whole histories of some people: impressions and repeated event ids dropped, each person's events
    in order of time; events of one time keep the order of the log.
    """
    events = events.filter(pc.not_equal(events["action"], int(Action.IMPRESSION)))
    events = events.take(
        pc.sort_indices(events, [(c, "ascending") for c in ("user_id", "time_ms", "file_order")])
    )
    ids = events["event_id"]
    if ids.null_count == events.num_rows:
        return events
    seen: set[tuple[str, str]] = set()
    keep = np.ones(events.num_rows, np.bool_)
    for place, (user_id, event_id) in enumerate(
        zip(events["user_id"].to_pylist(), ids.to_pylist(), strict=True)
    ):
        if event_id:
            keep[place] = (user_id, event_id) not in seen
            seen.add((user_id, event_id))
    return events.filter(pa.array(keep))


def assemble(tables: Tables, roles: RoleSettings, more_items: Sequence[str] = ()) -> TrainingData:
    """Builds the data of one training from sequences (see `to_sequences`) and the other tables.

    more_items: that are in neither table. Items that bring no embedding get zeros. Raises InvalidInput where
    there are no events.
    """
    events = to_sequences(normalise_events(tables.events))
    if not events.num_rows:
        raise InvalidInput.of("events", "must hold at least one event that is no impression", 0)
    user_ids, owners = _codes(events["user_id"], _column(tables.users, "user_id"))
    item_ids, items = _codes(events["item_id"], [*_column(tables.items, "item_id"), *more_items])
    order = np.argsort(owners, kind="stable")
    profiles = _profiles(tables.users, user_ids)
    catalogue = _catalogue(tables.items, item_ids)
    return TrainingData(
        user_ids=user_ids,
        item_ids=item_ids,
        offsets=offsets_of(np.bincount(owners, minlength=len(user_ids))),
        items=items[order],
        actions=events["action"].to_numpy()[order].astype(np.int32),
        values=events["value"].to_numpy()[order].astype(np.float32),
        time_ms=events["time_ms"].to_numpy()[order].astype(np.int64),
        attributes=np.stack([attribute_vector(p) for p in profiles]).reshape(-1, PROFILE_DIM),
        profiles=profiles,
        content=_content(catalogue),
        neighbours=_neighbours(tables.relations, user_ids),
        roles=assign_roles(user_ids, roles),
        titles=tuple(str(row.get("title") or "") for row in catalogue),
        categories=tuple(tuple(row.get("categories") or ()) for row in catalogue),
    )


def _column(table: pa.Table | None, name: str) -> list[str]:
    return [] if table is None else [str(v) for v in table[name].to_pylist()]


def _codes(column: pa.ChunkedArray, more: list[str]) -> tuple[tuple[str, ...], IntArray]:
    """Sorted distinct names, and the place of each value of the column among them."""
    encoded = column.combine_chunks().dictionary_encode()
    names = [str(v) for v in encoded.dictionary.to_pylist()]
    everything = tuple(sorted(set(names) | set(more)))
    place = {name: number for number, name in enumerate(everything)}
    remap = np.array([place[name] for name in names], np.int32)
    return everything, remap[encoded.indices.to_numpy()]


def _catalogue(items: pa.Table | None, item_ids: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """The row of each item; an empty one for items known from events alone. The last row of an id counts."""
    rows = {} if items is None else {str(row["item_id"]): row for row in items.to_pylist()}
    return [rows.get(item_id, {}) for item_id in item_ids]


def _content(catalogue: list[Mapping[str, Any]]) -> FloatArray:
    vectors = {
        number: np.asarray(row["embedding"], np.float32)
        for number, row in enumerate(catalogue)
        if row.get("embedding") is not None
    }
    dims = {len(v) for v in vectors.values()}
    if len(dims) > 1:
        raise InvalidInput.of("items.embedding", "must have one length", sorted(dims))
    content = np.zeros((len(catalogue), dims.pop() if dims else CONTENT_DIM), np.float32)
    for number, vector in vectors.items():
        content[number] = vector
    return content


def _profiles(users: pa.Table | None, user_ids: tuple[str, ...]) -> tuple[Mapping[str, str], ...]:
    if users is None or "attributes" not in users.column_names:
        return tuple({} for _ in user_ids)
    rows = zip(_column(users, "user_id"), users["attributes"].to_pylist(), strict=True)
    known = {user_id: {str(k): str(v) for k, v in (pairs or ())} for user_id, pairs in rows}
    return tuple(known.get(user_id, {}) for user_id in user_ids)


def _neighbours(relations: pa.Table | None, user_ids: tuple[str, ...]) -> Neighbours:
    """Relations between known people; the last row of a pair counts, a removed one not at all."""
    if relations is None or not relations.num_rows:
        return Neighbours.none(len(user_ids))
    place = {user_id: number for number, user_id in enumerate(user_ids)}
    pairs: dict[tuple[int, int], tuple[float, int]] = {}
    for row in relations.to_pylist():
        pair = (place.get(str(row["user_id"]), -1), place.get(str(row["other_user_id"]), -1))
        if min(pair) < 0 or pair[0] == pair[1]:
            continue
        pairs.pop(pair, None)
        if not row.get("removed"):
            pairs[pair] = (float(row.get("weight") or 1.0), int(row.get("time_ms") or 0))
    ordered = sorted(pairs)
    return Neighbours(
        offsets_of(np.bincount([u for u, _ in ordered], minlength=len(user_ids))),
        np.array([v for _, v in ordered], np.int32),
        np.array([pairs[p][0] for p in ordered], np.float32),
        np.array([pairs[p][1] for p in ordered], np.int64),
    )
