"""The reaction loss against its plain twin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.training.reactions import ReactionConfig, reaction_loss
from shared.modeling.item_tower import ItemRows

tf = pytest.importorskip("tensorflow")
CONFIG = ReactionConfig(move=0.8, nearest=2)
ITEMS, DIM, CHOICES, TASKS = 6, 3, 2, 3


class Recorder:
    """Stands for the person's side: given queries, and a note of who went without fast weights."""

    def __init__(self, queries: Any) -> None:
        self.queries = queries
        self.adapt: list[float] = []
        self.config = SimpleNamespace(taste_dim=DIM)

    def encode_adapt(self, inputs: dict[str, Any], adapt: Any) -> SimpleNamespace:
        self.adapt = adapt.numpy().tolist()
        return SimpleNamespace(queries=tf.constant(self.queries))


def log_softmax(scores: Any) -> Any:
    return scores - np.log(np.exp(scores).sum())


def test_the_nearest_items_shall_move_by_the_label_and_no_further() -> None:
    rng = np.random.default_rng(0)
    output = rng.normal(size=(ITEMS, DIM + TASKS)).astype(np.float32)
    queries = rng.normal(size=(6, TASKS, DIM + TASKS)).astype(np.float32)  # three people before, then after
    items, labels = np.array([1, 4, 0], np.int32), np.array([1.0, -1.0, -0.5], np.float32)
    batch = {f"reaction_{n}": np.zeros((6, 2), np.float32) for n in ("values", "labels", "ages_s", "mask")}
    batch |= {f"reaction_{n}": np.zeros((6, 2), np.int32) for n in ("items", "actions")}
    batch |= {f"reaction_{n}": np.zeros((6, 1), np.float32) for n in ("attributes", "request")}
    batch |= {f"reaction_{n}_profile": np.zeros((6, 1), np.float32) for n in ("content", "social")}
    batch |= {"reaction_item": items, "reaction_label": labels}
    model: Any = Recorder(queries)
    rows = ItemRows(*(tf.constant(output) for _ in range(3)))

    miss, right = reaction_loss(model, {k: tf.constant(v) for k, v in batch.items()}, rows, CONFIG)

    misses, rights = [], []
    taste = output[:, :DIM] / np.linalg.norm(output[:, :DIM], axis=1, keepdims=True)
    for person, (item, label) in enumerate(zip(items, labels, strict=True)):
        nearest = [int(i) for i in np.argsort(-(taste @ taste[item])) if i != item][:2]
        for task in range(CHOICES):
            before, after = (log_softmax(output @ queries[p, task]) for p in (person, person + 3))
            moved = (after - before)[nearest].mean()
            misses.append(abs(moved - 0.8 * label))
            rights.append(moved * label > 0)
    assert float(miss) == pytest.approx(np.mean(misses), abs=1e-5)
    assert float(right) == pytest.approx(np.mean(rights))
    assert model.adapt == [0.0] * 6  # without fast weights
