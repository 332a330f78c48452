"""Live item rows: the artifact's rows plus what happened to the catalogue since.

Readers take `LiveItems.view` once a request: one consistent state that never changes under them.
Writers append: a new or changed item gets a fresh slot, and the old slot is marked dead in the next
view, so rows that somebody may be reading are never written. Dead slots are squeezed out in time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.artifacts import Artifact, Dims
from shared.domain import FloatArray, IntArray
from shared.neighbours import Neighbours

# Embeddings travel as float32 or float16: entries of one text differ by less than this between the two.
_SAME_CONTENT = 1e-3
_MIN_SPARE_SLOTS = 256
_ALIKE = "alike"  # a column of the table that is no service's
_log = structlog.get_logger(part="items")

Content = NDArray[np.float16]
NO_CONTENT: Content = np.zeros(0, np.float16)  # of an item without text, whatever the model's width
NO_CONTENT.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class ItemRows:
    """Rows of N items. input: [N, input_dim]; support: [N, support_dim]; output: [N, output_dim]; float32."""

    input: FloatArray
    support: FloatArray
    output: FloatArray

    @classmethod
    def empty(cls, dims: Dims) -> ItemRows:
        return cls(*(np.zeros((0, width), np.float32) for width in (dims.input, dims.support, dims.output)))

    @property
    def finite(self) -> NDArray[np.bool_]:
        """[N]: which items have finite rows of every kind."""
        ok: NDArray[np.bool_] = np.ones(len(self.input), bool)
        for rows in (self.input, self.support, self.output):
            ok &= np.isfinite(rows).all(axis=1)
        return ok


class RowMaker(Protocol):
    """Makes rows from content; `shared.inference.model.ServedModel` does."""

    def item_rows(self, id_rows: FloatArray, id_present: FloatArray, content: FloatArray) -> ItemRows: ...


# What a service keeps of the rows, by name; each value [N, width] float32.
Columns = Callable[[ItemRows], Mapping[str, FloatArray]]


def model_columns(rows: ItemRows) -> Mapping[str, FloatArray]:
    """What running the model needs."""
    return {"input": rows.input, "support": rows.support}


@dataclass(frozen=True, slots=True, eq=False)
class ItemView:
    """One state of the items; satisfies `shared.context.batch.RowLookup`.

    index: item id → slot. ids: slot → item id. columns: name → [slots, width] float32.
    alive: [slots] bool; slots that no item has any more are False. number: counts the states.
    trained: [N] int64, the slot of each row of the artifact; −1 where its item is gone.
    new: [M] int64, the slots of items that the artifact does not have. alike: [slots, n] int32, the
    artifact's rows that each of these is most like; −1 where nothing is or nothing says so, and in other
    slots; n = 0 where nobody asked for them.
    """

    index: Mapping[str, int]
    ids: Sequence[str]
    columns: Mapping[str, FloatArray]
    alive: NDArray[np.bool_]
    number: int
    trained: NDArray[np.int64]
    new: NDArray[np.int64]
    alike: IntArray

    @property
    def input_rows(self) -> FloatArray:
        return self.columns["input"]

    @property
    def support_rows(self) -> FloatArray:
        return self.columns["support"]

    def slots_of(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """[n] int64: the slot of each item, −1 where it has no rows."""
        get = self.index.get
        return np.fromiter((get(i, -1) for i in item_ids), np.int64, len(item_ids))

    def __len__(self) -> int:
        return len(self.index)


class LiveItems:
    """The rows of one model's items. Reading is free of locks; writers take turns, off the event loop."""

    def __init__(
        self,
        artifact: Artifact,
        maker: RowMaker,
        columns: Columns = model_columns,
        neighbours: Neighbours | None = None,
    ) -> None:
        """Holds what `columns` keeps of the artifact's rows in memory. neighbours: where views are to say
        what new items are like."""
        self._maker = maker
        self._columns = columns
        self._neighbours = neighbours
        self._dims = artifact.manifest.dims
        self._trained = {item_id: row for row, item_id in enumerate(artifact.item_ids)}
        self._id_rows = artifact.rows.id
        self._content = artifact.rows.content
        self._rows = artifact.rows
        self._remade: set[str] = set()  # trained items whose content is no longer the artifact's
        self._lock = threading.Lock()
        rows = ItemRows(*(np.asarray(r) for r in (self._rows.input, self._rows.support, self._rows.output)))
        kept = {**columns(rows), _ALIKE: self._unlike(len(self._trained))}
        self._table = _Table.of(list(artifact.item_ids), kept)
        self._slots = np.arange(len(self._trained))
        self._view = self._table.view(dict(self._trained), 0, self._slots)

    @property
    def view(self) -> ItemView:
        """The state now."""
        return self._view

    def trained_rows(self, item_ids: Sequence[str]) -> IntArray:
        """[n] int32: the artifact's row of each item, −1 where it has none."""
        get = self._trained.get
        return np.fromiter((get(i, -1) for i in item_ids), np.int32, len(item_ids))

    def apply(self, changes: Mapping[str, Content | None], keep_only: Set[str] | None = None) -> None:
        """Makes changes visible, all at once. Blocks while rows are made: call it off the event loop.

        changes: item id → content embedding [content_dim] or NO_CONTENT; None where the item is gone.
        keep_only: items that are neither here nor in `changes` go as well.
        An item whose embedding has another length than the model's stays as it is; one whose rows come
        out non-finite is left out: it would spoil every list. Both are logged.
        """
        with self._lock:
            gone = {i for i, content in changes.items() if content is None}
            if keep_only is not None:
                gone |= {i for i in self._view.index if i not in keep_only and i not in changes}
            nothing = np.zeros(self._dims.content, np.float16)
            wanted = {i: c if c.size else nothing for i, c in changes.items() if c is not None}
            as_trained, to_make = self._sorted_out(wanted)
            made_ids, made, alike = self._make(to_make)
            failed = to_make.keys() - set(made_ids)
            self._remade = (self._remade | (to_make.keys() & self._trained.keys())) - set(as_trained) - gone
            fresh = self._columns_of(as_trained, made, alike)
            self._publish([*as_trained, *made_ids], fresh, (gone | failed) & self._view.index.keys())

    def _sorted_out(self, wanted: Mapping[str, Content]) -> tuple[list[str], dict[str, Content]]:
        """(items that get the artifact's rows back, items whose rows must be made).

        Items that have the artifact's rows already are in neither.
        """
        as_trained: list[str] = []
        to_make: dict[str, Content] = {}
        misfits: list[str] = []
        for item_id, content in wanted.items():
            row = self._trained.get(item_id)
            if content.shape != (self._dims.content,):
                misfits.append(item_id)
            elif row is None or not same_content(content, self._content[row]):
                to_make[item_id] = content
            elif item_id in self._remade or item_id not in self._view.index:
                as_trained.append(item_id)
        if misfits:
            shapes = {"wanted": self._dims.content, "got": wanted[misfits[0]].shape}
            _log.error("content_does_not_fit", items=len(misfits), first=misfits[0], **shapes)
        return as_trained, to_make

    def _make(self, wanted: Mapping[str, Content]) -> tuple[list[str], ItemRows, IntArray]:
        """Ids and rows of the items whose rows came out finite, and what they are like."""
        if not wanted:
            return [], ItemRows.empty(self._dims), self._unlike(0)
        ids = list(wanted)
        id_rows = np.zeros((len(ids), self._dims.id), np.float32)
        id_present = np.zeros(len(ids), np.float32)
        for place, item_id in enumerate(ids):
            if (row := self._trained.get(item_id)) is not None:
                id_rows[place] = self._id_rows[row]
                id_present[place] = 1.0
        content = np.stack(list(wanted.values())).astype(np.float32)
        rows = self._maker.item_rows(id_rows, id_present, content)
        ok = rows.finite
        for place in np.flatnonzero(~ok).tolist():
            _log.error("item_rows_not_finite", item_id=ids[place])
        made = ItemRows(rows.input[ok], rows.support[ok], rows.output[ok])
        alike = self._unlike(len(made.output))
        if self._neighbours:
            told = content[ok].any(axis=1)  # of others nothing says what they are like
            alike[told] = self._neighbours(made.output[told])
        return [i for i, fine in zip(ids, ok, strict=True) if fine], made, alike

    def _columns_of(
        self, as_trained: Sequence[str], made: ItemRows, alike: IntArray
    ) -> Mapping[str, NDArray[Any]]:
        places = [self._trained[i] for i in as_trained]
        old, new = self._rows, made
        rows = ItemRows(
            np.concatenate([old.input[places], new.input]),
            np.concatenate([old.support[places], new.support]),
            np.concatenate([old.output[places], new.output]),
        )
        return {**self._columns(rows), _ALIKE: np.concatenate([self._unlike(len(places)), alike])}

    def _unlike(self, count: int) -> IntArray:
        return np.full((count, self._neighbours.count if self._neighbours else 0), -1, np.int32)

    def _publish(self, ids: Sequence[str], columns: Mapping[str, NDArray[Any]], gone: Set[str]) -> None:
        index = dict(self._view.index)
        dead = [index.pop(i) for i in gone]
        dead += [index[i] for i in ids if i in index]
        if not ids and not dead:
            return
        start = self._table.append(ids, columns)
        index.update({item_id: start + place for place, item_id in enumerate(ids)})
        self._table.bury(dead)
        moved: Iterable[str] = {*gone, *ids}
        if self._table.wasteful:
            self._table, index = self._table.squeezed(index)
            moved = self._trained
        self._slots = self._slots.copy()  # a view may have the old one
        for item_id in moved:
            if (row := self._trained.get(item_id)) is not None:
                self._slots[row] = index.get(item_id, -1)
        self._view = self._table.view(index, self._view.number + 1, self._slots)


def same_content(a: Content, b: Content) -> bool:
    """Whether two embeddings are of the same text, up to how they travelled."""
    return bool(np.abs(a.astype(np.float32) - b.astype(np.float32)).max(initial=0.0) <= _SAME_CONTENT)


class _Table:
    """Columns with spare room; written by one writer, past what any view shows."""

    def __init__(self, ids: list[str], columns: dict[str, NDArray[Any]], alive: NDArray[np.bool_]) -> None:
        self._ids = ids
        self._columns = columns  # [capacity, width]
        self._alive = alive  # [slots]; replaced, never written, once a view has it

    @classmethod
    def of(cls, ids: list[str], columns: Mapping[str, NDArray[Any]]) -> _Table:
        grown = {name: _with_room(np.asarray(rows), len(ids)) for name, rows in columns.items()}
        return cls(ids, grown, np.ones(len(ids), bool))

    def append(self, ids: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> int:
        """Adds rows; returns the slot of the first."""
        start = len(self._ids)
        end = start + len(ids)
        for name, rows in columns.items():
            if end > len(self._columns[name]):
                self._columns[name] = _with_room(self._columns[name][:start], end)
            self._columns[name][start:end] = rows
        self._ids.extend(ids)
        self._alive = np.concatenate([self._alive, np.ones(len(ids), bool)])
        return start

    def bury(self, slots: Sequence[int]) -> None:
        alive = self._alive.copy()
        alive[list(slots)] = False
        self._alive = alive

    @property
    def wasteful(self) -> bool:
        dead = len(self._alive) - int(self._alive.sum())
        return dead > max(_MIN_SPARE_SLOTS, len(self._alive) // 4)

    def squeezed(self, index: Mapping[str, int]) -> tuple[_Table, dict[str, int]]:
        """The same items without dead slots, and their new index."""
        ids = list(index)
        slots = np.fromiter(index.values(), np.int64, len(ids))
        kept = {name: rows[slots] for name, rows in self._columns.items()}
        return _Table.of(ids, kept), {item_id: slot for slot, item_id in enumerate(ids)}

    def view(self, index: Mapping[str, int], number: int, trained: NDArray[np.int64]) -> ItemView:
        slots = len(self._alive)
        shown = {name: rows[:slots] for name, rows in self._columns.items()}
        for rows in shown.values():
            rows.flags.writeable = False
        new = self._alive.copy()
        new[trained[trained >= 0]] = False
        alike = shown.pop(_ALIKE)
        return ItemView(index, self._ids, shown, self._alive, number, trained, np.flatnonzero(new), alike)


def _with_room(rows: NDArray[Any], needed: int) -> NDArray[Any]:
    """A copy with capacity for an eighth more than `needed`."""
    grown = np.empty((needed + max(_MIN_SPARE_SLOTS, needed // 8), rows.shape[1]), rows.dtype)
    grown[: len(rows)] = rows
    return grown
