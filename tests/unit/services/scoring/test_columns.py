"""Directions and sketches: unit length, fixed for a version, alike where items are alike."""

from __future__ import annotations

import numpy as np

from services.scoring.columns import SKETCH_DIM, ScoringColumns
from shared.domain import FloatArray
from shared.items import ItemRows

RNG = np.random.default_rng(3)
OUTPUT = RNG.normal(size=(300, 52)).astype(np.float32)


def columns_of(fitted: ScoringColumns, output: FloatArray) -> dict[str, FloatArray]:
    nothing = np.zeros((len(output), 1), np.float32)
    return dict(fitted(ItemRows(nothing, nothing, output)))


def test_biases_do_not_turn_directions() -> None:
    rows = np.array([[3.0, 4.0, 100.0], [0.0, 0.0, 5.0]], np.float32)
    fitted = ScoringColumns.fitted(rows, 2)
    columns = columns_of(fitted, rows)
    np.testing.assert_allclose(columns["direction"], [[0.6, 0.8], [0.0, 0.0]])
    np.testing.assert_array_equal(columns["output"], rows)


def test_sketches_are_short_and_of_unit_length() -> None:
    sketches = columns_of(ScoringColumns.fitted(OUTPUT, 50), OUTPUT)["sketch"]
    assert sketches.shape == (300, SKETCH_DIM)
    assert sketches.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(sketches, axis=1), 1.0, atol=1e-5)


def test_an_item_has_the_same_sketch_whoever_else_is_sketched() -> None:
    fitted = ScoringColumns.fitted(OUTPUT, 50)
    again = ScoringColumns.fitted(OUTPUT.copy(), 50)
    whole = columns_of(fitted, OUTPUT)["sketch"]
    np.testing.assert_allclose(columns_of(again, OUTPUT[17:18])["sketch"][0], whole[17], atol=1e-6)


def test_items_of_one_kind_have_sketches_nearer_than_items_of_two() -> None:
    kinds = np.repeat(np.eye(4, 50, dtype=np.float32), 50, axis=0)
    output = np.hstack([5.0 + kinds + 0.05 * RNG.normal(size=kinds.shape), np.zeros((200, 2))])
    sketches = columns_of(ScoringColumns.fitted(output.astype(np.float32), 50), output.astype(np.float32))[
        "sketch"
    ]
    cosines = sketches @ sketches.T
    same = np.equal.outer(np.arange(200) // 50, np.arange(200) // 50)
    # Every row shares a large common part: centring takes it out.
    assert cosines[same].mean() > 0.8
    assert cosines[~same].mean() < 0.0


def test_narrow_rows_and_empty_catalogues_have_sketches_too() -> None:
    assert columns_of(ScoringColumns.fitted(OUTPUT[:, :7], 5), OUTPUT[:, :7])["sketch"].shape == (300, 5)
    none = np.zeros((0, 52), np.float32)
    assert columns_of(ScoringColumns.fitted(none, 50), none)["sketch"].shape == (0, SKETCH_DIM)
