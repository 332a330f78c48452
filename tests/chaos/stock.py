"""The models of the chaos suite: one that serves, and those that must never."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from shared.artifacts import Registry
from shared.domain import Action, ModelRef
from tests.artifacts import item_ids, publish_model
from tests.chaos.world import Bad

ITEMS = 1000


def publish(directory: Path) -> tuple[Registry, Bad]:
    """A registry with a champion, and beside it what is wrong in one way each."""
    ids = item_ids(ITEMS)
    registry, stock = Registry(directory / "registry"), Registry(directory / "stock")
    registry.promote("default", publish_model(registry, ids=ids).version)
    good = publish_model(stock, ids=ids, seed=1)
    refs = {
        "half-written": _copy(stock, good, _drop_half),
        "cut short": _copy(stock, good, _cut_short),
        "tampered with": _copy(stock, good, _flip_a_bit),
        "of no numbers": publish_model(stock, ids=ids, seed=2, spoil=_no_numbers),
    }
    return registry, Bad(stock, refs)


def _copy(stock: Registry, good: ModelRef, spoil: Any) -> ModelRef:
    """The good version under another name, spoiled: its manifest is of before."""
    version = stock._next_version(good.domain)
    directory = stock.root / good.domain / version
    shutil.copytree(stock.root / good.domain / good.version, directory)
    manifest = directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace(good.version, version))
    spoil(directory)
    return ModelRef(good.domain, version)


def _drop_half(directory: Path) -> None:
    shutil.rmtree(directory / "saved_model")


def _cut_short(directory: Path) -> None:
    file = directory / "rows" / "output.npy"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _flip_a_bit(directory: Path) -> None:
    file = directory / "rows" / "input.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _no_numbers(model: Any) -> None:
    """Only for people who liked something: a model that is asked about nobody seems well."""
    actions = model.encoder.actions.numpy()
    actions[int(Action.LIKE)] = np.nan
    model.encoder.actions.assign(actions)
