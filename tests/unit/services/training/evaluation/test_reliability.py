"""Whether values are what they say: counts and figures worked by hand, and the report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.reliability import (
    PROBABILITY_EDGES,
    STAR_EDGES,
    Reliability,
    pooled,
    reliability,
)
from services.training.evaluation.reliability_report import (
    PLOT,
    plot_reliability,
    reliability_dict,
    reliability_markdown,
)
from services.training.roles import RoleSettings
from shared.domain import TaskInfo
from shared.holdout import Role
from tests.unit.services.training import synthetic


def test_figures_by_hand() -> None:
    """Twice .25 and twice .75 foretold; of the first none came, of the second both.

    Brier (2/16 + 2/16)/4, of the mean (1/2)² = 1/4, calibration (|.5 − 0| + |1.5 − 2|)/4."""
    seen = Reliability(np.array([0.0, 0.5, 1.0]))
    seen.add(np.array([0.25, 0.25, 0.75, 0.75]), np.array([False, False, True, True]))
    assert seen.values == 4
    assert seen.mean_squared_error == pytest.approx(1 / 16)
    assert seen.of_the_mean == pytest.approx(1 / 4)
    assert seen.calibration_error == pytest.approx(1 / 4)
    assert seen.points == [(0.25, 0.0, 2.0), (0.75, 1.0, 2.0)]


def test_parts_add_up_and_what_lies_beyond_the_edges_counts_in_the_last_bins() -> None:
    whole, one, other = (Reliability(STAR_EDGES) for _ in range(3))
    said, came = np.array([0.2, 3.1, 6.0]), np.array([1.0, 3.0, 5.0])
    whole.add(said, came)
    one.add(said[:1], came[:1])
    other.add(said[1:], came[1:])
    together = pooled({0: one, 5: other})
    assert together.points == whole.points
    assert together.mean_squared_error == pytest.approx(whole.mean_squared_error)
    assert len(whole.points) == 3


def test_probabilities_from_nothing_to_one_have_a_bin() -> None:
    seen = Reliability(PROBABILITY_EDGES)
    seen.add(np.array([0.0, 1e-9, 1e-4, 0.5, 1.0]), np.zeros(5))
    assert seen.values == 5


class Fair:
    """Says the same of every item: how often it happens on average, and 4 stars."""

    def __init__(self, data: TrainingData, share: float) -> None:
        tasks = tuple(TaskInfo(name) for name in ("next", "like", "rating"))
        self.artifact = SimpleNamespace(manifest=SimpleNamespace(tasks=tasks))
        self.share = share

    def rows(self, item_ids: tuple[str, ...]) -> Any:
        return np.zeros((len(item_ids), 1), np.float32)

    def values(self, contexts: list[Any], rows: Any, *, recent: Any) -> Any:
        for _ in contexts:
            yield np.tile(np.array([self.share, self.share / 2, 4.0], np.float32), (len(rows), 1))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=60, events=34, items=80), RoleSettings(0.4, 0.2))


def test_over_unseen_items_what_came_is_the_query(data: TrainingData, tmp_path: Path) -> None:
    """20 of 80 items are seen, 10 of the other 60 come next: a share of 1/6; some of them are liked."""
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    assert questions.protocol.query_events == 10
    served: Any = Fair(data, 1 / 6)
    told: list[tuple[int, int]] = []
    found = reliability(data, questions, [served, served], progress=lambda *done: told.append(done))
    assert told[-1] == (12, 12)
    assert list(found) == ["next", "like", "rating"]
    assert list(found["next"]) == [0, 1, 2, 5, 10, 20]
    seen = found["next"][5]
    assert seen.values == 2 * 60 * len(questions)
    assert seen.happened.sum() == 2 * 10 * len(questions)
    assert seen.calibration_error == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < found["like"][0].happened.sum() / seen.happened.sum() < 1.0
    assert found["rating"][0].values == 2 * 10 * len(questions)

    result = reliability_dict(found)
    assert result["next"]["foretold"] == pytest.approx(result["next"]["happened"], rel=1e-5)
    json.dumps(result)
    text = "\n".join(reliability_markdown(result))
    stars = result["rating"]
    assert f"| `rating` | {stars['values']:.0f} | {stars['foretold'] / stars['values']:.2f} |" in text
    plot_reliability(result, tmp_path / PLOT)
    assert (tmp_path / PLOT).stat().st_size > 1000
