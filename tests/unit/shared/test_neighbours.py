"""The trained items that a new one is most like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.artifacts import Artifact, Registry
from shared.domain import FloatArray, IntArray
from shared.neighbours import NEIGHBOURS, Neighbours
from tests.artifacts import DIMS, DRAFT, item_ids, plain_build, rows_of

# [v ; φ] has 15 places, and one that no item's output row fills is of transitions.
FOLLOWED = replace(DIMS, output=DIMS.output + 1, trail=4, successors=2)


def artifact_of(path: Path, successors: IntArray, follows: FloatArray, **rows: Any) -> Artifact:
    ids = item_ids(len(successors))
    found = {**rows_of(ids, FOLLOWED), "successors": successors, "follows": follows, **rows}
    registry = Registry(path)
    return registry.open(registry.publish("default", plain_build(ids, found), replace(DRAFT, dims=FOLLOWED)))


def chain(size: int) -> tuple[IntArray, FloatArray]:
    """Each item leads to the next one, the last one nowhere; nothing leads to the first."""
    successors = np.full((size, 2), -1, np.int32)
    successors[:-1, 0] = np.arange(1, size)
    return successors, np.where(successors < 0, 0.0, 0.5).astype(np.float32)


def test_neighbours_are_those_of_the_largest_cosines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plain way, among items that anything leads to; the length of a row does not matter."""
    artifact = artifact_of(tmp_path, *chain(40))
    neighbours = Neighbours.of(artifact)
    assert neighbours is not None
    monkeypatch.setattr("shared.neighbours._NEW_AT_ONCE", 4)
    taste = np.asarray(artifact.rows.output[:, : FOLLOWED.taste], np.float64)
    asked = np.random.default_rng(1).normal(size=(6, FOLLOWED.output)).astype(np.float32)
    found = neighbours(asked)
    assert (found.shape, found.dtype) == ((6, NEIGHBOURS), np.int32)
    for row, said in zip(asked[:, : FOLLOWED.taste].astype(np.float64), found.tolist(), strict=True):
        cosines = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in taste]
        wanted = sorted(range(1, 40), key=lambda item: -cosines[item])[:NEIGHBOURS]
        assert set(said) == set(wanted)
    assert {tuple(sorted(r)) for r in neighbours(100.0 * asked).tolist()} == {
        tuple(sorted(r)) for r in found.tolist()
    }
    assert neighbours(asked[:0]).shape == (0, NEIGHBOURS)
    assert neighbours(0.0 * asked[:1]).tolist() == [[-1] * NEIGHBOURS]


def test_what_points_away_is_no_neighbour() -> None:
    """Of three directions one is like (1, 1)."""
    directions = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], np.float32)
    neighbours = Neighbours(np.array([7, 8, 9], np.int32), directions)
    assert sorted(neighbours(np.array([[2.0, 2.0, 5.0]], np.float32))[0].tolist()) == [-1, -1, 7]


def test_of_very_many_items_those_that_most_leads_to_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 and 2 lead to 1, 3 leads to 2 twice as strongly as 1 to 0: the two that are asked are 1 and 2."""
    successors = np.array([[1, -1], [0, -1], [1, -1], [2, -1]], np.int32)
    follows = np.array([[0.3, 0.0], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0]], np.float32)
    monkeypatch.setattr("shared.neighbours._MOST", 2)
    monkeypatch.setattr("shared.neighbours._ROWS_AT_ONCE", 3)
    neighbours = Neighbours.of(artifact_of(tmp_path, successors, follows))
    assert neighbours is not None
    assert (neighbours.rows.tolist(), neighbours.count) == ([1, 2], 2)


def test_where_nothing_leads_anywhere_there_are_none(tmp_path: Path) -> None:
    nowhere = np.full((3, 2), -1, np.int32), np.zeros((3, 2), np.float32)
    assert Neighbours.of(artifact_of(tmp_path / "table", *nowhere)) is None
    ids = item_ids(3)
    registry = Registry(tmp_path / "none")
    plain = registry.publish("default", plain_build(ids, rows_of(ids)), DRAFT)
    assert Neighbours.of(registry.open(plain)) is None
