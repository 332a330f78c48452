"""Leave one out: what is kept from training, what is asked, and figures worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.training.assemble import Tables, assemble
from services.training.data import TrainingData
from services.training.evaluation.baselines import PureSvd, pure_svd
from services.training.evaluation.leave_one_out import (
    FOLLOWING,
    KNN,
    MODEL,
    POPULARITY,
    RULES,
    leave_one_out,
    split,
)
from services.training.evaluation.leave_one_out_report import leave_one_out_dict
from services.training.evaluation.report import markdown, write_report
from services.training.roles import RoleSettings
from shared.domain import FloatArray
from shared.holdout import Role
from tests.unit.services.training import synthetic

HISTORIES = {"ann": "abcd", "bob": "bcd", "cid": "ab", "dee": "abca"}


@pytest.fixture
def data() -> TrainingData:
    """Four people, four items; cid has too few events to be asked, dee comes back to her first item."""
    events = [
        (user, item, 7, 5.0, 1000 * n) for user, items in HISTORIES.items() for n, item in enumerate(items)
    ]
    names = ("user_id", "item_id", "action", "value", "time_ms")
    table = pa.table({name: [e[n] for e in events] for n, name in enumerate(names)})
    return assemble(Tables(table), RoleSettings(0.5, 0.2))


def test_the_last_two_events_of_everybody_with_three_are_not_trained_on(data: TrainingData) -> None:
    parts = split(data)
    letters = np.array(data.item_ids)
    kept = {
        user: "".join(letters[parts.train.items[a:b]])
        for user, a, b in zip(data.user_ids, parts.train.offsets, parts.train.offsets[1:], strict=False)
    }
    assert kept == {"ann": "ab", "bob": "b", "cid": "ab", "dee": "ab"}
    assert set(parts.train.roles) == {int(Role.TRAIN)}
    for targets, wanted in ((parts.validation, "ccc"), (parts.test, "dda")):
        assert "".join(letters[data.items[targets.ends]]) == wanted


def test_the_test_event_is_asked_from_all_before_it_the_validation_event_included(data: TrainingData) -> None:
    histories = split(data).test.histories(data)
    assert ["".join(np.array(data.item_ids)[h]) for h in histories] == ["abc", "bc", "abc"]


def test_an_item_that_was_had_before_cannot_be_found_again(data: TrainingData) -> None:
    assert [len(r) for r in split(data).test.relevant(data)] == [1, 1, 0]


class Alphabet:
    """Ranks items by their place in the alphabet, the last first: d, c, b, a."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def rows(self, item_ids: tuple[str, ...]) -> FloatArray:
        return np.arange(len(item_ids), dtype=np.float32)[:, None]

    def scores(self, contexts: Any, rows: FloatArray, *, task: str, adapt: bool = True) -> FloatArray:
        assert all(not c.request.time_ms and not c.content_profile.any() for c in contexts)
        return np.repeat(rows.T, len(contexts), axis=0)


def test_figures_by_hand(data: TrainingData) -> None:
    """Validation asks for c (had: ab, b, ab), which d stands before: NDCG 1/log2(3) = .6309. Test asks ann
    and bob for d, found first, and dee for a, which she has had."""
    found = leave_one_out(data, split(data), [Alphabet(data)])  # type: ignore[list-item]
    np.testing.assert_allclose(found.validation[MODEL].ndcg, 1.0 / np.log2(3.0))
    assert found.test[MODEL].ndcg.tolist() == [1.0, 1.0, 0.0]
    assert found.test[MODEL].hr.tolist() == [1.0, 1.0, 0.0]


def test_kappa_is_what_the_validation_event_speaks_for() -> None:
    """People walk round a circle: an alphabet says nothing, what follows says all. Where nobody walks, it is
    the least that is as good as any."""
    rng = np.random.default_rng(0)
    lines = [[(start + n) % 26 for n in range(9)] for start in rng.integers(0, 26, 40)]
    found = leave_one_out(walks(lines), split(walks(lines)), [Alphabet(walks(lines))])  # type: ignore[list-item]
    assert found.test[FOLLOWING].hr.mean() == 1.0
    assert found.test[MODEL].hr.mean() < 0.7
    assert found.test[RULES].hr.mean() == 1.0
    assert found.tuned[FOLLOWING].startswith("κ = ")
    still = walks([list(range(4))] * 4)
    assert leave_one_out(still, split(still), [Alphabet(still)]).tuned[FOLLOWING] == "κ = 0"  # type: ignore[list-item]


def walks(lines: list[list[int]]) -> TrainingData:
    events = [
        (f"u{user:02d}", f"i{item:02d}", 7, 5.0, 1000 * n)
        for user, line in enumerate(lines)
        for n, item in enumerate(line)
    ]
    names = ("user_id", "item_id", "action", "value", "time_ms")
    table = pa.table({name: [e[n] for e in events] for n, name in enumerate(names)})
    return assemble(Tables(table), RoleSettings(0.0, 0.0))


def test_popularity_ranks_by_events_that_were_trained_on(data: TrainingData) -> None:
    """a, b: 3 and 4 events; c and d none, so c before d by their order."""
    found = leave_one_out(data, split(data), [])
    np.testing.assert_allclose(found.validation[POPULARITY].ndcg[0], 1.0)
    assert found.test[POPULARITY].ndcg.tolist() == [1.0, pytest.approx(1.0 / np.log2(3.0)), 0.0]


def test_pure_svd_is_the_projection_on_the_largest_singular_vectors() -> None:
    """The plain twin: numpy's decomposition of the dense matrix."""
    data = assemble(synthetic.tables(people=40, items=30), RoleSettings(0.0, 0.0))
    seen = np.zeros((data.num_users, data.num_items))
    seen[data.owners, data.items] = 1.0
    _, _, vectors = np.linalg.svd(seen, full_matrices=False)
    support = [np.array([0, 4], np.int32), np.array([9], np.int32), np.zeros(0, np.int32)]
    found = pure_svd(data, PureSvd(3))(support, support, 5)
    for row, items in zip(found[:2], support, strict=False):
        scores = seen[0] * 0.0
        scores[items] = 1.0
        scores = scores @ vectors[:3].T @ vectors[:3]
        scores[items] = -np.inf
        np.testing.assert_array_equal(row, np.argsort(-scores)[:5])
    assert found.shape == (3, 5)


def test_the_report_names_arms_figures_and_choices(tmp_path: Path) -> None:
    data = assemble(synthetic.tables(), RoleSettings())
    told: list[tuple[int, int]] = []
    found = leave_one_out(data, split(data), [], progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(6)]
    report = {"domain": "films", "preset": "tiny", "seconds": 3.0, "seeds": 1}
    whole = {**report, "leave_one_out": leave_one_out_dict(found)}
    assert Path(write_report(tmp_path, whole)["arms"]).read_bytes().startswith(b"\x89PNG")
    said = markdown(whole)
    worse = (found.test[POPULARITY].ndcg < found.test[KNN].ndcg).mean()
    assert f"| {worse:.0%} |" in said
    assert "The last event of 120 people" in said
    assert f"| {KNN} | 0." in said
    assert "Chosen on validation: item-kNN: Knn(" in said
