"""Live rows: consistent views, changed and new items, deletions, slots that are reused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from shared.artifacts import Artifact, Registry
from shared.context.batch import build_inputs
from shared.domain import FloatArray
from shared.items import NO_CONTENT, Content, ItemRows, LiveItems
from shared.neighbours import Neighbours
from tests.artifacts import DIMS, DRAFT, content_of, item_ids, plain_build, rows_of
from tests.model_servers import context_of


class PlainTower:
    """Rows that say what they were made from: [content's first entry, id's first entry, presence, …]."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def item_rows(self, id_rows: FloatArray, id_present: FloatArray, content: FloatArray) -> ItemRows:
        self.calls.append(len(id_present))
        said = np.stack([content[:, 0], id_rows[:, 0], id_present], axis=1)
        widths = (DIMS.input, DIMS.support, DIMS.output)
        return ItemRows(*(np.tile(said, (1, width))[:, :width] for width in widths))


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Five items, whose content is `content_of` their ids."""
    registry = Registry(tmp_path)
    return registry.open(registry.publish("default", plain_build(item_ids(5), rows_of(item_ids(5))), DRAFT))


@pytest.fixture
def tower() -> PlainTower:
    return PlainTower()


@pytest.fixture
def items(artifact: Artifact, tower: PlainTower) -> LiveItems:
    return LiveItems(artifact, tower, lambda r: {"input": r.input, "support": r.support, "output": r.output})


def contents(*ids: str) -> Mapping[str, Content]:
    return {i: content_of(i).astype(np.float16) for i in ids}


def row(items: LiveItems, item_id: str, kind: str = "output") -> FloatArray:
    found: FloatArray = items.view.columns[kind][items.view.index[item_id]]
    return found


def test_a_view_knows_what_new_items_are_like(artifact: Artifact, tower: PlainTower) -> None:
    """Only of new ones, also after deletions and squeezes; an item of the artifact whose text changes is not
    new."""
    taste = DIMS.taste
    directions = np.zeros((2, taste), np.float32)
    directions[:, 0] = 1.0, -1.0  # by what `PlainTower` says first: the content's first entry
    items = LiveItems(artifact, tower, neighbours=Neighbours(np.array([3, 1], np.int32), directions))
    assert (items.view.new.tolist(), items.view.alike.tolist()) == ([], [[-1, -1]] * 5)

    def new() -> dict[str, list[int]]:
        view = items.view
        return {view.ids[slot]: sorted(view.alike[slot].tolist()) for slot in view.new.tolist()}

    items.apply({**contents("x", "y"), **other_content("item-0003")})
    # One of the two directions points away from each.
    assert {len(set(alike) & {1, 3}) for alike in new().values()} == {1}
    assert new().keys() == {"x", "y"}
    for turn in range(400):  # past what is squeezed
        items.apply({"y": content_of(f"y{turn}").astype(np.float16), "x": None})
    assert new().keys() == {"y"}
    items.apply({"y": NO_CONTENT})  # no text: nothing says what it is like
    assert new() == {"y": [-1, -1]}
    items.apply({"y": None})
    assert new() == {}
    nobody_asks = LiveItems(artifact, tower)
    nobody_asks.apply(contents("x"))
    assert nobody_asks.view.alike.shape[1] == 0
    assert [nobody_asks.view.ids[slot] for slot in nobody_asks.view.new.tolist()] == ["x"]


def test_a_view_knows_where_the_artifacts_items_are(items: LiveItems) -> None:
    """Also after changes, deletions and squeezes; what is not the artifact's has no row there."""

    def where() -> list[str | None]:
        view = items.view
        return [view.ids[slot] if slot >= 0 else None for slot in view.trained.tolist()]

    assert where() == item_ids(5)
    before = items.view
    items.apply(
        {"item-0001": None, "new": content_of("new").astype(np.float16), **other_content("item-0003")}
    )
    assert where() == ["item-0000", None, "item-0002", "item-0003", "item-0004"]
    assert before.trained.tolist() == [0, 1, 2, 3, 4]
    for turn in range(300):
        items.apply({"item-0002": np.full(DIMS.content, turn / 300.0, np.float16)})
    assert where() == ["item-0000", None, "item-0002", "item-0003", "item-0004"]
    assert items.trained_rows(["new", "item-0004", "item-0001"]).tolist() == [-1, 4, 1]


def other_content(item_id: str) -> Mapping[str, Content]:
    return {item_id: content_of(f"{item_id} anew").astype(np.float16)}


def test_at_first_the_rows_are_the_artifacts(items: LiveItems, artifact: Artifact) -> None:
    assert list(items.view.index) == item_ids(5)
    assert len(items.view) == 5
    for kind in ("input", "support", "output"):
        np.testing.assert_array_equal(items.view.columns[kind], getattr(artifact.rows, kind))
    assert not items.view.columns["output"].flags.writeable
    assert items.view.slots_of(["item-0003", "unknown"]).tolist() == [3, -1]


def test_a_known_item_with_the_same_content_keeps_the_artifacts_rows(
    items: LiveItems, artifact: Artifact, tower: PlainTower
) -> None:
    before = items.view
    as_float32 = {"item-0001": content_of("item-0001").astype(np.float16)}
    items.apply({**contents("item-0000"), **as_float32})
    assert tower.calls == []
    assert items.view is before


def test_a_known_item_with_new_content_gets_rows_from_its_id_and_the_new_content(
    items: LiveItems, artifact: Artifact
) -> None:
    new = content_of("rewritten").astype(np.float16)
    items.apply({"item-0002": new})
    wanted = [float(new[0]), float(artifact.rows.id[2, 0]), 1.0]
    np.testing.assert_allclose(row(items, "item-0002")[:3], wanted, rtol=1e-6)
    assert len(items.view) == 5

    items.apply(contents("item-0002"))  # back to the old text
    np.testing.assert_array_equal(row(items, "item-0002"), artifact.rows.output[2])


def test_a_new_item_gets_rows_from_its_content_alone(items: LiveItems) -> None:
    items.apply(contents("new"))
    wanted = [float(content_of("new").astype(np.float16)[0]), 0.0, 0.0]
    for kind in ("input", "support", "output"):
        np.testing.assert_allclose(row(items, "new", kind)[:3], wanted, rtol=1e-6)
    assert len(items.view) == 6


def test_an_item_without_text_gets_rows_from_zeros(items: LiveItems, artifact: Artifact) -> None:
    items.apply({"wordless": NO_CONTENT, "item-0001": NO_CONTENT})
    np.testing.assert_array_equal(row(items, "wordless")[:3], [0.0, 0.0, 0.0])
    wanted = [0.0, float(artifact.rows.id[1, 0]), 1.0]
    np.testing.assert_allclose(row(items, "item-0001")[:3], wanted, rtol=1e-6)


def test_deleted_items_are_gone_and_can_come_back(items: LiveItems, artifact: Artifact) -> None:
    items.apply({"item-0001": None, "unknown": None, **contents("new")})
    assert "item-0001" not in items.view.index
    assert items.view.alive.tolist() == [True, False, True, True, True, True]
    items.apply({**contents("item-0001"), "new": None})
    np.testing.assert_array_equal(row(items, "item-0001"), artifact.rows.output[1])
    assert sorted(items.view.index) == item_ids(5)


def test_what_the_catalogue_does_not_hold_goes_when_it_is_whole(items: LiveItems) -> None:
    items.apply(contents("new", "item-0000"), keep_only={"item-0000", "item-0003", "elsewhere"})
    assert sorted(items.view.index) == ["item-0000", "item-0003", "new"]


def test_a_view_never_changes_under_its_reader(items: LiveItems) -> None:
    before = items.view
    index, columns = dict(before.index), {k: v.copy() for k, v in before.columns.items()}
    alive = before.alive.copy()
    for n in range(40):
        items.apply({f"item-000{n % 5}": content_of(f"text {n}").astype(np.float16)})
        items.apply({**contents(*(f"new-{n}-{m}" for m in range(20))), f"new-{n - 1}-0": None})
    assert before.index == index
    np.testing.assert_array_equal(before.alive, alive)
    for kind, rows in columns.items():
        np.testing.assert_array_equal(before.columns[kind], rows)
    assert len(items.view) == 5 + 40 * 20 - 39


def test_every_view_is_whole_and_dead_slots_are_squeezed_out(items: LiveItems) -> None:
    for n in range(1200):
        items.apply({"churning": content_of(f"text {n}").astype(np.float16)})
        view = items.view
        assert view.ids[view.index["churning"]] == "churning"
        assert int(view.alive.sum()) == len(view) == 6
    assert len(items.view.alive) < 600
    assert [items.view.ids[s] for s in items.view.index.values()] == list(items.view.index)


def test_an_item_without_finite_rows_is_left_out(items: LiveItems) -> None:
    spoiled = content_of("spoiled").astype(np.float16)
    spoiled[0] = np.nan
    items.apply({**contents("fine"), "spoiled": spoiled, "item-0001": spoiled})
    assert "spoiled" not in items.view.index
    assert "item-0001" not in items.view.index
    assert "fine" in items.view.index


def test_content_of_another_length_changes_nothing(items: LiveItems, artifact: Artifact) -> None:
    short = np.zeros(3, np.float16)
    items.apply({"misfit": short, "item-0001": short, **contents("fine")})
    assert sorted(items.view.index) == ["fine", *item_ids(5)]
    np.testing.assert_array_equal(row(items, "item-0001"), artifact.rows.output[1])


def test_a_view_serves_histories(items: LiveItems, artifact: Artifact) -> None:
    items.apply(contents("new"))
    inputs = build_inputs([context_of("fan", "item-0004", "unknown", "new")], items.view, (4, 16))
    assert inputs.shots.tolist() == [2]
    np.testing.assert_array_equal(inputs.input_rows[0, 2], artifact.rows.input[4])
    np.testing.assert_array_equal(inputs.support_rows[0, 3], row(items, "new", "support"))
