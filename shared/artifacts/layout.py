"""The files of a version besides its manifest, and how they are written.

saved_model/        signatures `encode_adapt` and `item_rows`
items.parquet       row, item_id, title, categories: the vocabulary, in the order of the rows
rows/id.npy         [N, id]       float32   learned id embeddings
rows/input.npy      [N, input]    float32   e_i
rows/support.npy    [N, support]  float32   ψ_i
rows/output.npy     [N, output]   float32   [v_i ; φ_i ; … ; b_i]
rows/content.npy    [N, content]  float16   content embeddings; zeros for items without text
rows/successors.npy [N, successors] int32   rows of the items that follow item i; −1 where there are fewer
rows/follows.npy    [N, successors] float32 how strongly they do, see `shared.transitions`
rows/counts.npy     [N, 1]        float32   weight of all positive events on item i, see `shared.trends`

Successors and follows only where the manifest's dims have successors, counts only where they have trends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

SAVED_MODEL_DIR = "saved_model"
ITEMS_FILE = "items.parquet"
ROW_DTYPES: Mapping[str, np.dtype[Any]] = {
    "id": np.dtype("<f4"),
    "input": np.dtype("<f4"),
    "support": np.dtype("<f4"),
    "output": np.dtype("<f4"),
    "content": np.dtype("<f2"),
}
# Of transitions, where there are any.
TRANSITION_DTYPES: Mapping[str, np.dtype[Any]] = {"successors": np.dtype("<i4"), "follows": np.dtype("<f4")}
# Of trends, where there are any.
TREND_DTYPES: Mapping[str, np.dtype[Any]] = {"counts": np.dtype("<f4")}
ITEMS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("categories", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class VocabularyItem:
    """One item that the model was trained with."""

    item_id: str
    title: str = ""
    categories: tuple[str, ...] = ()


def row_file(kind: str) -> str:
    """`rows/<kind>.npy`."""
    return f"rows/{kind}.npy"


def row_dtypes(*, transitions: bool, trends: bool) -> dict[str, np.dtype[Any]]:
    """By kind of rows, of a version with transitions and trends or without."""
    return {**ROW_DTYPES, **(TRANSITION_DTYPES if transitions else {}), **(TREND_DTYPES if trends else {})}


def write_items(directory: Path, items: Sequence[VocabularyItem]) -> None:
    """Writes `items.parquet`; item i is row i of every `rows/*.npy`."""
    table = pa.table(
        {
            "row": np.arange(len(items), dtype=np.int32),
            "item_id": [i.item_id for i in items],
            "title": [i.title for i in items],
            "categories": [list(i.categories) for i in items],
        },
        schema=ITEMS_SCHEMA,
    )
    pq.write_table(table, directory / ITEMS_FILE)


def write_rows(directory: Path, rows: Mapping[str, NDArray[Any]]) -> None:
    """Writes `rows/<kind>.npy` of each kind in ROW_DTYPES, cast to its dtype, of transitions where they have
    a width, and of trends where there are any. Arrays: [N, width].

    Raises KeyError where a kind is missing.
    """
    (directory / "rows").mkdir(exist_ok=True)
    # A catalogue of no items may have transitions as well.
    transitions = "successors" in rows and rows["successors"].shape[1] > 0
    for kind, dtype in row_dtypes(transitions=transitions, trends="counts" in rows).items():
        array = np.ascontiguousarray(rows[kind], dtype=dtype)
        np.save(directory / row_file(kind), array, allow_pickle=False)
