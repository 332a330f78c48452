"""Readers of public data sets and of anybody's files: rows in, domain values out, bad rows named.

    dataset = load("movielens-100k")
    for row in dataset.events():        # Row(number, Event) or Reject(file, number, reason, raw)
        ...

rows.py       Row, Reject, Dataset: what a reader yields
sources.py    delimited text, `::` text, JSON Lines, Parquet: streamed, row by row
fields.py     one cell → id, number, action, time, list
records.py    cells → Event, Item, User, Relation, checked by shared.limits
event_ids.py  ids derived from the event itself, so that importing twice changes nothing
reading.py    how cells of generic files are read, from options
files.py      generic files with a column mapping
movielens.py, amazon.py, ciaodvd.py, lastfm.py, registry.py (`load`)
"""

from shared.datasets.files import Columns, load_files
from shared.datasets.reading import FileOptions
from shared.datasets.registry import DATASETS, load
from shared.datasets.rows import Dataset, DatasetError, Reject, Row, accepted

__all__ = [
    "DATASETS",
    "Columns",
    "Dataset",
    "DatasetError",
    "FileOptions",
    "Reject",
    "Row",
    "accepted",
    "load",
    "load_files",
]
