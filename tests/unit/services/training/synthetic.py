"""A small world with structure: people have one of four tastes, items one of four kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from services.training.assemble import Tables
from shared.domain import Action

KINDS = ("space", "cooking", "garden", "music")
_WORDS = {
    "space": ("rocket", "planet", "star", "moon", "orbit"),
    "cooking": ("soup", "bread", "spice", "oven", "salad"),
    "garden": ("rose", "soil", "seed", "tree", "hedge"),
    "music": ("violin", "drum", "choir", "song", "opera"),
}
_DAY_MS = 24 * 3600 * 1000
_START_MS = 1_600_000_000_000
CONTENT_DIM = 16


def histories(lines: Sequence[str]) -> Tables:
    """One person a string, one item a letter, viewed in turn."""
    told = [(f"u{u:03d}", item, at) for u, line in enumerate(lines) for at, item in enumerate(line)]
    return Tables(
        pa.table(
            {
                "user_id": [r[0] for r in told],
                "item_id": [r[1] for r in told],
                "action": [int(Action.VIEW)] * len(told),
                "value": pa.array([0.0] * len(told), pa.float32()),
                "time_ms": [_START_MS + 1000 * r[2] for r in told],
            }
        )
    )


def rows(people: int, events: int, items: int, seed: int = 0) -> Iterator[tuple[str, str, str, float, int]]:
    """(user, item, action, value, time): nine in ten ratings are of the person's kind and high."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        taste = person % len(KINDS)
        order = rng.permutation(items)
        liked = [i for i in order if i % len(KINDS) == taste]
        others = [i for i in order if i % len(KINDS) != taste]
        time = _START_MS + int(rng.integers(0, 30)) * _DAY_MS
        for _ in range(events):
            mine = liked and (rng.random() < 0.9 or not others)
            item = liked.pop() if mine else others.pop()
            time += int(rng.integers(1, 5)) * 3600 * 1000
            yield f"u{person:03d}", f"i{item:03d}", "rating", float(rng.choice([4, 5]) if mine else 2), time


def title(item: int) -> str:
    words = _WORDS[KINDS[item % len(KINDS)]]
    return f"{words[item % 5]} {words[(item // 4) % 5]} {words[(item // 7) % 5]} {item}"


def tables(people: int = 120, events: int = 14, items: int = 60) -> Tables:
    """The world as tables, with embeddings that show the kind."""
    log = list(rows(people, events, items))
    rng = np.random.default_rng(1)
    kinds = np.eye(len(KINDS), CONTENT_DIM)[np.arange(items) % len(KINDS)]
    content = kinds + rng.normal(0.0, 0.1, kinds.shape)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    return Tables(
        pa.table(
            {
                "user_id": [r[0] for r in log],
                "item_id": [r[1] for r in log],
                "action": [7] * len(log),
                "value": [r[3] for r in log],
                "time_ms": [r[4] for r in log],
            }
        ),
        items=pa.table(
            {
                "item_id": [f"i{n:03d}" for n in range(items)],
                "title": [title(n) for n in range(items)],
                "categories": [[KINDS[n % len(KINDS)]] for n in range(items)],
                "embedding": list(content.astype(np.float32)),
            }
        ),
    )


def write_files(directory: Path, people: int = 120, events: int = 14, items: int = 60) -> dict[str, Path]:
    """The world as CSV files: events, items."""
    log = list(rows(people, events, items))
    files = {"events": directory / "events.csv", "items": directory / "items.csv"}
    columns = ("user", "item", "action", "value", "time")
    pa_csv.write_csv(pa.table({c: [r[n] for r in log] for n, c in enumerate(columns)}), files["events"])
    catalogue = {
        "item": [f"i{n:03d}" for n in range(items)],
        "title": [title(n) for n in range(items)],
        "categories": [KINDS[n % len(KINDS)] for n in range(items)],
    }
    pa_csv.write_csv(pa.table(catalogue), files["items"])
    return files
