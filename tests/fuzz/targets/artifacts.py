"""What the registry holds, damaged or made up: manifest, vocabulary, rows, aliases.

Checksums are made to fit where a target is about what they protect: whoever can write to a registry can write
those too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.artifacts import Registry
from shared.artifacts.manifest import MANIFEST_FILE, Manifest
from shared.domain import ModelRef
from tests.artifacts import item_ids, publish_plain
from tests.fuzz.targets.base import Target, Wrong, chosen, scratch

_ITEMS = 4
_ROWS = ("rows/id.npy", "rows/output.npy", "rows/content.npy")


@cache
def _published() -> tuple[Registry, ModelRef]:
    registry = Registry(scratch() / "registry")
    return registry, publish_plain(registry, items=_ITEMS)


def _directory() -> Path:
    registry, ref = _published()
    return registry.root / ref.domain / ref.version


@cache
def _original(name: str) -> bytes:
    return (_directory() / name).read_bytes()


def _manifest(case: bytes) -> None:
    """Read, and written again, it says the same; numbers are numbers."""
    path = scratch() / MANIFEST_FILE
    path.write_bytes(case)
    manifest = Manifest.read(path)
    path.write_bytes(manifest.to_json())
    if Manifest.read(path) != manifest:
        raise Wrong("a manifest that was written again says something else")
    numbers = [x for t in manifest.tasks for x in (t.offset, t.default_weight, *t.bounds)]
    if not np.isfinite([*numbers, *manifest.metrics.values()][: len(numbers)]).all():
        raise Wrong(f"tasks hold what is not finite: {manifest.tasks}")


def _whole(case: bytes) -> None:
    """The manifest of a version that is whole but for it."""
    directory = _directory()
    (directory / MANIFEST_FILE).write_bytes(case)
    _open()


def _with(name: str, data: bytes) -> None:
    """A version with one file's bytes, under their checksum."""
    directory = _directory()
    manifest = json.loads(_original(MANIFEST_FILE))
    manifest["files"][name] = sha256(data).hexdigest()
    (directory / name).write_bytes(data)
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest))
    try:
        _open()
    finally:
        (directory / name).write_bytes(_original(name))
        (directory / MANIFEST_FILE).write_bytes(_original(MANIFEST_FILE))


def _open() -> None:
    registry, ref = _published()
    artifact = registry.open(ref)
    if len(artifact.vocabulary()) != len(artifact.item_ids):
        raise Wrong("a vocabulary of another size than its rows")
    for rows in (artifact.rows.id, artifact.rows.output, artifact.rows.content):
        if len(rows) != len(artifact.item_ids) or not np.isfinite(rows).all():
            raise Wrong("rows that are not those of the vocabulary, or no numbers")


def _rows(case: bytes) -> None:
    number, data = chosen(case, len(_ROWS))
    _with(_ROWS[number], data)


def _row_seeds() -> list[bytes]:
    found = [bytes((n,)) + _original(name) for n, name in enumerate(_ROWS)]
    hostile = (
        np.full((_ITEMS, 8), np.nan, np.float32),
        np.zeros((_ITEMS, 8), np.float64),
        np.zeros((_ITEMS, 8), np.float32, order="F"),
        np.zeros((0, 8), np.float32),
        np.zeros((), np.float32),
        np.zeros((_ITEMS, 8), [("a", "<f4")]),
        np.zeros((_ITEMS, 8), "U3"),
    )
    for array in hostile:
        out = io.BytesIO()
        np.save(out, array)
        found.append(b"\0" + out.getvalue())
    packed = io.BytesIO()
    np.savez(packed, np.zeros(3))
    return [
        *found,
        b"\0" + packed.getvalue(),
        b"\0PK\x03\x04",
        b"\0" + _header("(" * 3000),
        b"\0" + _header("{'descr': '"),
    ]


def _header(text: str) -> bytes:
    """A file of numpy's with this for its header."""
    padded = text.encode().ljust(-(-(len(text) + 11) // 64) * 64 - 10) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def _vocabulary(case: bytes) -> None:
    _with("items.parquet", case)


def _vocabularies() -> list[bytes]:
    """The real one, and such as only somebody who means harm would write."""
    schema = pq.read_schema(io.BytesIO(_original("items.parquet")))
    bad = pa.array([b"\xff\xfe"] * _ITEMS, pa.binary())
    text = pa.StringArray.from_buffers(_ITEMS, *bad.buffers()[1:])
    ids, rows = pa.array(item_ids(_ITEMS)), pa.array(range(_ITEMS), pa.int32())
    lists = pa.array([["a", None], [], [""], ["x" * 99]], pa.list_(pa.string()))
    found = [_original("items.parquet")]
    for columns in ([rows, text, ids, lists], [rows, ids, text, lists], [rows, ids, ids, lists]):
        out = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), out)
        found.append(out.getvalue())
    return found


def _alias(case: bytes) -> None:
    registry, ref = _published()
    file = registry.root / ref.domain / "champion.json"
    file.write_bytes(case)
    try:
        champion = registry.champion(ref.domain)
        registry.earlier_champions(ref.domain)
        if champion is not None:
            registry.open(champion)
    finally:
        file.unlink()


def _aliases() -> list[bytes]:
    version = _published()[1].version
    said = (
        {"version": version, "history": ["1", version]},
        {"version": "a", "history": "abc"},
        {"version": "../.."},
    )
    return [json.dumps(one).encode() for one in said]


def json_mutation(case: bytes, rng: Random) -> bytes:
    """Another value somewhere in a JSON document, or its bytes damaged."""
    from tests.fuzz.mutation import damaged
    from tests.fuzz.values import FLOATS, LONG_INTS, TEXTS

    try:
        document = json.loads(case)
    except (ValueError, RecursionError):
        return damaged(rng, case)
    places: list[tuple[object, object]] = []

    def walk(value: object) -> None:
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in pairs:
            places.append((value, key))
            walk(inner)

    walk(document)
    makers: tuple[Callable[[], object], ...] = (
        lambda: rng.choice(FLOATS), lambda: rng.choice(LONG_INTS), lambda: rng.choice(TEXTS), dict, list,
        lambda: None, lambda: True, lambda: 10**400, lambda: [[]] * 3,
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not places:
            break
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or (isinstance(holder, list) and len(holder) > key):  # type: ignore[operator]
            holder[key] = rng.choice(makers)()  # type: ignore[index]
    made = json.dumps(document).encode()
    if rng.random() < 0.02:
        made = b'{"a":' * rng.choice((100, 5000, 100_000)) + made
    return damaged(rng, made) if rng.random() < 0.15 else made


def _documents() -> list[bytes]:
    return [_original(MANIFEST_FILE)]


TARGETS = (
    Target("manifest", _manifest, _documents, json_mutation, max_bytes=20_000),
    Target("artifact", _whole, _documents, json_mutation, max_bytes=20_000),
    Target("artifact-rows", _rows, _row_seeds),
    Target("artifact-items", _vocabulary, _vocabularies, max_bytes=8192),
    Target("alias", _alias, _aliases, json_mutation),
)
