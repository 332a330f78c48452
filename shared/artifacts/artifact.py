"""Opening a version: every file present and unchanged, every array of its stated shape, all finite."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from shared.artifacts.layout import (
    ITEMS_FILE,
    ITEMS_SCHEMA,
    ROW_DTYPES,
    SAVED_MODEL_DIR,
    TRANSITION_DTYPES,
    TREND_DTYPES,
    VocabularyItem,
    row_dtypes,
    row_file,
)
from shared.artifacts.manifest import MANIFEST_FILE, Manifest
from shared.artifacts.signature import SIGNATURE_FILE, TrustedKeys
from shared.domain import FloatArray, ModelRef
from shared.errors import ArtifactError
from shared.limits import id_rule
from shared.transitions import Transitions
from shared.trends import Trends

_CHECKED_ROWS = 65536  # rows looked at in one go when checking for finite values

# numpy parses headers with `ast`, which Python 3.11 cannot do in two threads at once (CPython issue 106905).
_HEADERS = threading.Lock()
# What numpy raises of a file that is none of its own: it parses headers as Python.
_NO_ARRAY = (
    ValueError,
    EOFError,
    SyntaxError,
    TokenError,
    RecursionError,
    OverflowError,
    TypeError,
    KeyError,
    MemoryError,
)


@dataclass(frozen=True, slots=True, eq=False)
class ArtifactRows:
    """Memory-mapped rows of the vocabulary, [N, width] each; see `layout.py`."""

    id: FloatArray
    input: FloatArray
    support: FloatArray
    output: FloatArray
    content: NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """One verified version. Row i of `rows`, `transitions` and `trends` belongs to `item_ids[i]`."""

    ref: ModelRef
    path: Path
    manifest: Manifest
    item_ids: tuple[str, ...]
    rows: ArtifactRows
    transitions: Transitions
    trends: Trends

    @property
    def saved_model(self) -> Path:
        return self.path / SAVED_MODEL_DIR

    @contextmanager
    def own_saved_model(self) -> Iterator[Path]:
        """A copy that nobody else can write, gone at the end, of the very files that the manifest names:
        what is run is what was verified, whatever is done to the registry meanwhile.

        Raises ArtifactError where they have changed.
        """
        with tempfile.TemporaryDirectory(prefix="warmstart-model-") as own:
            for name, stated in self.manifest.files.items():
                if not name.startswith(f"{SAVED_MODEL_DIR}/"):
                    continue
                copy = Path(own) / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(self.path / name, copy)
                except OSError as error:
                    raise ArtifactError(f"{self.path / name}: must be readable: {error.strerror}") from error
                found = sha256_of(copy)
                if found != stated:
                    raise ArtifactError(f"{self.path / name}: sha256 must be {stated}, got {found}")
            yield Path(own) / SAVED_MODEL_DIR

    def vocabulary(self) -> tuple[VocabularyItem, ...]:
        """Ids, titles and categories in the order of the rows; reads `items.parquet`."""
        table = _read_items(self.path / ITEMS_FILE)
        columns = (table.column(name).to_pylist() for name in ("item_id", "title", "categories"))
        return tuple(VocabularyItem(i, t, tuple(c)) for i, t, c in zip(*columns, strict=True))


def open_artifact(path: Path, ref: ModelRef, trusted: TrustedKeys | None = None) -> Artifact:
    """Verifies everything and opens it. Raises ArtifactError naming the file, the rule and the value.

    trusted: who must have signed it; None = nobody.
    """
    stated_file = path / MANIFEST_FILE
    raw = Manifest.stated(stated_file)
    if trusted is not None:
        trusted.check(path, raw)  # before anything of it is believed
    manifest = Manifest.parse(stated_file, raw)
    for name, stated, wanted in (
        ("domain", manifest.domain, ref.domain),
        ("version", manifest.version, ref.version),
    ):
        if stated != wanted:
            raise ArtifactError(f"{path / MANIFEST_FILE}: {name} must be {wanted!r}, got {stated!r}")
    _verify_files(path, manifest)
    item_ids = _read_item_ids(path / ITEMS_FILE)
    dims = manifest.dims
    rows = {
        kind: _read_rows(path / row_file(kind), (len(item_ids), getattr(dims, kind)), dtype)
        for kind, dtype in ROW_DTYPES.items()
    }
    transitions = _read_transitions(path, manifest, item_ids)
    trends = _read_trends(path, manifest, item_ids)
    return Artifact(ref, path, manifest, item_ids, ArtifactRows(**rows), transitions, trends)


def files_of(path: Path) -> Iterator[str]:
    """Paths of all files of a version but its manifest and signature, with forward slashes, sorted.

    Raises ArtifactError on a symbolic link: it could lead out of the version.
    """
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_symlink():
            raise ArtifactError(f"{file}: must be a file or directory, got a symbolic link")
        if file.is_file() and name not in (MANIFEST_FILE, SIGNATURE_FILE):
            yield name


def sha256_of(file: Path) -> str:
    """Hex digest. Raises ArtifactError where the file cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{file}: must be readable: {error.strerror}") from error


def _verify_files(path: Path, manifest: Manifest) -> None:
    dims = manifest.dims
    kinds = row_dtypes(transitions=dims.successors > 0, trends=dims.trends > 0)
    needed = {ITEMS_FILE, *(row_file(kind) for kind in kinds), f"{SAVED_MODEL_DIR}/saved_model.pb"}
    for name in sorted(needed - manifest.files.keys()):
        raise ArtifactError(
            f"{path / MANIFEST_FILE}: files must name {name!r}, got {len(manifest.files)} others"
        )
    for name in sorted(set(files_of(path)) - manifest.files.keys()):
        raise ArtifactError(f"{path / name}: must be named by the manifest's files, got a stray file")
    for name, stated in sorted(manifest.files.items()):
        if not (path / name).is_file():
            raise ArtifactError(f"{path / name}: must exist, got no such file")
        found = sha256_of(path / name)
        if found != stated:
            raise ArtifactError(f"{path / name}: sha256 must be {stated}, got {found}")


def _read_items(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
        table.validate(full=True)  # texts are UTF-8
        columns = _words(table.schema)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file}: must be a Parquet file: {error}") from error
    if not table.schema.equals(ITEMS_SCHEMA):
        raise ArtifactError(f"{file}: columns must be {_words(ITEMS_SCHEMA)}, got {columns}")
    return table


def _read_item_ids(file: Path) -> tuple[str, ...]:
    table = _read_items(file)
    rows = table.column("row").to_numpy()
    if not np.array_equal(rows, np.arange(len(rows))):
        raise ArtifactError(f"{file}: row must count up from 0, got {rows[:5].tolist()}…")
    item_ids = tuple(table.column("item_id").to_pylist())
    seen: set[str] = set()
    for row, item_id in enumerate(item_ids):
        rule = id_rule(item_id) or ("must be unique" if item_id in seen else "")
        if rule:
            raise ArtifactError(f"{file}: item_id of row {row} {rule}, got {item_id!r}")
        seen.add(item_id)
    return item_ids


def _read_transitions(path: Path, manifest: Manifest, item_ids: tuple[str, ...]) -> Transitions:
    """An empty table where the version has none."""
    size = len(item_ids)
    width = manifest.dims.successors
    if not width:
        return Transitions.none(size, 0)
    items, weights = (
        _read_rows(path / row_file(kind), (size, width), dtype) for kind, dtype in TRANSITION_DTYPES.items()
    )
    for kind, array, low, high in (("successors", items, -1, size - 1), ("follows", weights, 0.0, 1.0)):
        bad = np.argwhere((array < low) | (array > high))
        if len(bad):
            row, column = bad[0].tolist()
            got = f"{array[row, column]} in row {row}, column {column}"
            raise ArtifactError(f"{path / row_file(kind)}: values must be {low}..{high}, got {got}")
    return Transitions(np.asarray(items), np.asarray(weights))


def _read_trends(path: Path, manifest: Manifest, item_ids: tuple[str, ...]) -> Trends:
    """None that count where the version has none."""
    if not manifest.dims.trends:
        return Trends.none(len(item_ids))
    ((kind, dtype),) = TREND_DTYPES.items()
    file = path / row_file(kind)
    counts = _read_rows(file, (len(item_ids), 1), dtype)[:, 0]
    bad = np.flatnonzero(counts < 0)
    if len(bad):
        raise ArtifactError(f"{file}: values must be at least 0, got {counts[bad[0]]} in row {bad[0]}")
    return Trends(np.asarray(counts), manifest.trends.prior)


def _read_rows(file: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        with file.open("rb") as stream:  # of zip files numpy would make archives, and of others pickles
            if stream.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                raise ValueError("it does not begin as one")
        # An empty file cannot be mapped; a catalogue without items is legal.
        with _HEADERS:
            array = np.load(file, mmap_mode="r" if shape[0] else None, allow_pickle=False)
    except (*_NO_ARRAY, OSError) as error:
        raise ArtifactError(f"{file}: must be an array of numbers: {error}") from error
    if array.dtype != dtype:
        raise ArtifactError(f"{file}: dtype must be {dtype.name}, got {array.dtype.name}")
    if array.shape != shape:
        raise ArtifactError(f"{file}: shape must be {shape}, got {array.shape}")
    for start in range(0, shape[0], _CHECKED_ROWS):
        chunk = array[start : start + _CHECKED_ROWS]
        bad = np.argwhere(~np.isfinite(chunk))
        if len(bad):
            row, column = bad[0].tolist()
            place = f"row {start + row}, column {column}"
            raise ArtifactError(f"{file}: values must be finite, got {chunk[row, column]} in {place}")
    found: NDArray[Any] = array
    return found


def _words(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} {f.type}{'' if f.nullable else ' not null'}" for f in schema)
