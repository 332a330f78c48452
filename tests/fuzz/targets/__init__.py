"""What reads bytes from outside: each target takes any bytes, and only our own errors may come out.

base.py        what a target is, and how one of its cases is judged
messages.py    requests → domain values, by the codecs of all services, and back
tokens.py      page tokens of lists, catalogues and trainings
files.py       people's files: CSV, JSON Lines, Parquet, compressed, and how they are to be read
datasets.py    files of the public data sets
artifacts.py   what the registry holds: manifest, vocabulary, rows, aliases
runs.py        what a training's directory holds, and what its process says
checkpoints.py its saved states
settings.py    the environment of every server
records.py     what the store holds, packed and unpacked
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets.base import Target

# By module: a process that runs one target imports no other. A test holds this to the modules.
_MODULES = {
    "messages": ("shared-codec", "service-codecs"),
    "tokens": ("page-tokens",),
    "files": ("csv", "json-lines", "compressed", "parquet-bytes", "parquet-tables", "reading-options"),
    "datasets": ("public-datasets",),
    "artifacts": ("manifest", "artifact", "artifact-rows", "artifact-items", "alias"),
    "runs": ("run-json", "training-json", "result-json", "trainer-lines"),
    "checkpoints": ("checkpoint",),
    "settings": ("settings",),
    "records": ("store-records",),
}
TARGET_NAMES: Sequence[str] = tuple(name for names in _MODULES.values() for name in names)


@cache
def target_of(name: str) -> Target:
    module = next(module for module, names in _MODULES.items() if name in names)
    found = import_module(f"tests.fuzz.targets.{module}").TARGETS
    return next(target for target in found if target.name == name)


def unknown_targets() -> set[str]:
    """Names that are of no module, and such as a module has and nobody runs; for the test."""
    there = {t.name for m in _MODULES for t in import_module(f"tests.fuzz.targets.{m}").TARGETS}
    return there ^ set(TARGET_NAMES)
