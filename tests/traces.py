"""Looks for somebody everywhere: in a store's keys and values, in files, in models, in a server's memory."""

from __future__ import annotations

import re
import types
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from valkey import Valkey

from tests.valkey import RunningValkey

_OURS = ("services.", "shared.")
_ATOMS = (int, float, complex, bool, type(None), type, types.ModuleType, types.FunctionType)


def everything(client: Valkey, match: str = "*") -> Iterator[bytes]:
    """Every key, and every field, member and value, as callers of the store see them."""
    for key in client.scan_iter(match=match, count=1000):
        yield key
        kind = client.type(key)
        if kind == b"string":
            yield client.get(key)
        elif kind == b"hash":
            yield from (part for pair in client.hgetall(key).items() for part in pair)
        elif kind == b"zset":
            yield from client.zrange(key, 0, -1)
        elif kind == b"set":
            yield from client.smembers(key)
        elif kind == b"stream":
            yield from (part for _, fields in client.xrange(key) for pair in fields.items() for part in pair)
        else:
            raise AssertionError(f"{key!r} holds a {kind!r}, which the scan does not read")


def traces(valkey: RunningValkey, person: str, *, match: str = "*") -> list[bytes]:
    """Keys and values that hold the id: none is compressed or encoded in a way that would hide it."""
    with valkey.client() as client:
        return [value for value in everything(client, match) if person.encode() in value]


def keys_with_bytes_of(valkey: RunningValkey, person: str, *, match: str = "*") -> list[bytes]:
    """Keys whose serialised value holds the id: also where no command shows it any more."""
    with valkey.client() as client:
        client.config_set("rdbcompression", "no")
        return [key for key in client.scan_iter(match=match) if person.encode() in (client.dump(key) or b"")]


def files_with_bytes_of(directory: Path, person: str) -> list[Path]:
    """Files below a directory that hold the id."""
    return [f for f in directory.rglob("*") if f.is_file() and person.encode() in f.read_bytes()]


def words_of_tables(directory: Path) -> set[str]:
    """Ids and words of the Parquet files below a directory."""
    tables = "\n".join(str(pq.read_table(file).to_pylist()) for file in directory.rglob("*.parquet"))
    return set(re.findall(r"[\w-]+", tables))


def people_in(version: Path, user_ids: Collection[str]) -> set[str]:
    """Who of them is named in a model's version: in its tables, its texts, and all of them in a graph's bytes
    (ids of a few letters stand in those by chance, but never all). Its arrays must be of numbers."""
    found = words_of_tables(version)
    for file in (f for f in version.rglob("*") if f.is_file()):
        if file.suffix == ".json":
            found |= set(re.findall(r"[\w-]+", file.read_text()))
        elif file.suffix == ".npy":
            assert np.load(file).dtype.kind in "fiu", file
    graphs = b"".join(f.read_bytes() for f in version.rglob("*") if f.is_file() and "saved_model" in f.parts)
    in_graphs = {user_id for user_id in user_ids if user_id.encode() in graphs}
    return (found & set(user_ids)) | (in_graphs if len(in_graphs) > len(user_ids) / 20 else set())


def remembered(root: object, person: str) -> list[str]:
    """Paths from an object of ours to texts and bytes that hold the id: the memory of a server."""
    found: list[str] = []
    seen: set[int] = set()
    waiting: deque[tuple[str, Any]] = deque([("", root)])
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, str | bytes | bytearray):
            held = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
            if person in held:
                found.append(path)
            continue
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        seen.add(id(value))
        waiting.extend((f"{path}{name}", part) for name, part in _parts(value))
    return found


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, held in value.items():
            yield f"[{key!r}] (key)", key
            yield f"[{key!r}]", held
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"[{n}]", part) for n, part in enumerate(value))
    elif isinstance(value, types.MethodType):
        yield "()", value.__self__
    elif type(value).__module__.startswith(_OURS):
        names = [n for cls in type(value).__mro__ for n in getattr(cls, "__slots__", ())]
        for name in dict.fromkeys([*names, *getattr(value, "__dict__", {})]):
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
