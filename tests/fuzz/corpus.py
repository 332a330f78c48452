"""Cases kept in the repository: what once went wrong, and what reaches far. Replayed by every test run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).with_name("corpus")


def corpus_of(target: str) -> Mapping[str, bytes]:
    """By file name. RPCs have a folder each below that of their server."""
    directory = ROOT / target
    if not directory.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
