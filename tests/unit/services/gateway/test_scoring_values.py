from __future__ import annotations

import numpy as np
import pytest

from services.gateway.draft import Scores
from services.gateway.odds import log_odds, multiplied
from services.gateway.query import Boost
from services.gateway.scorers.tasks import ranked
from services.gateway.selectors.boosts import log_factor
from shared.domain import Calibration, Item, Link, ModelRef, TaskInfo

TASKS = (TaskInfo("next", offset=1.0), TaskInfo("like", offset=-2.0, link=Link.SIGMOID, default_weight=0.5))


def answer(*ids: str, raw: list[list[float]]) -> Scores:
    sketches = np.ones((len(ids), 2), np.float32)
    return Scores(ids, ("like", "next"), np.array(raw, np.float32), sketches, ModelRef("d", "v"))


def test_the_mix_goes_by_names_and_keeps_the_order_asked() -> None:
    scores = answer("a", "b", raw=[[2.0, 10.0], [2.0, 20.0]])
    ranking = ranked(["b", "x", "a"], scores, TASKS, np.array([1.0, 0.5], np.float32))
    assert ranking.item_ids == ("b", "x", "a")
    # b: 1 · (20 + 1) + .5 · σ(0) = 21.25; x has no rows.
    assert ranking.base[[0, 2]].tolist() == [21.25, 11.25]
    assert np.isnan(ranking.base[1])
    assert ranking.sketches is not None
    assert ranking.sketches[1].tolist() == [0.0, 0.0]
    assert [ranking.item_ids[i] for i in ranking.best_first()] == ["b", "a", "x"]


def test_a_task_without_weight_cannot_spoil_the_mix() -> None:
    scores = answer("a", raw=[[float("nan"), 1.0]])
    assert ranked(["a"], scores, TASKS, np.array([1.0, 0.0], np.float32)).base.tolist() == [2.0]


def test_values_are_those_of_the_persons_number_of_shots() -> None:
    task = TaskInfo("next", calibration=(Calibration(0, 1.0, 5.0), Calibration(3, 2.0, 7.0)))
    weights = np.array([1.0], np.float32)
    found = [ranked(["a"], answer("a", raw=[[0.0, 10.0]]), (task,), weights, k).base[0] for k in (0, 3)]
    assert found == [15.0, 27.0]


def test_stars_count_as_their_share_of_the_scale_and_are_shown_as_stars() -> None:
    """a: 3.5 + 0.5 = 4 stars, 3/4 of the way; with half of σ(0) = 1/2 that is 1.0. b: 5.5 stars rank above 5
    but are shown as 5, and the bounds are wide enough for boosts."""
    rating, like = TaskInfo("next", offset=3.5, bounds=(1.0, 5.0)), TaskInfo("like", link=Link.SIGMOID)
    scores = answer("a", "b", raw=[[0.0, 0.5], [0.0, 2.0]])
    ranking = ranked(["a", "b"], scores, (like, rating), np.array([0.5, 1.0], np.float32))
    assert ranking.base.tolist() == [1.0, 1.375]
    assert ranking.task_values.tolist() == [[0.5, 4.0], [0.5, 5.0]]
    assert ranking.bounds == (0.0, 1.5)
    alone = ranked(["a", "b"], scores, (like, rating), np.array([0.0, 1.0], np.float32))
    assert alone.bounds == (0.0, 1.125)
    assert multiplied(alone.base, np.log(np.array([2.0, 1.0], np.float32)), alone.bounds)[0] < 1.125


def test_the_default_mix_does_not_know_of_stars() -> None:
    rating, like = (
        TaskInfo("next", default_weight=0.0, bounds=(1.0, 5.0)),
        TaskInfo("like", link=Link.SIGMOID),
    )
    weights = np.array([like.default_weight, rating.default_weight], np.float32)
    ranking = ranked(["a"], answer("a", raw=[[0.0, 9.0]]), (like, rating), weights)
    assert ranking.base.tolist() == [0.5]
    assert ranking.bounds == (0.0, 1.0)


def test_equal_scores_stand_by_id() -> None:
    scores = answer("b", "c", "a", raw=[[2.0, 1.0]] * 3)
    ranking = ranked(["b", "c", "a"], scores, TASKS, np.array([1.0, 0.0], np.float32))
    assert [ranking.item_ids[i] for i in ranking.best_first()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("boost", "means_it"),
    [
        (Boost(4.0, item_id="i"), True),
        (Boost(4.0, item_id="j"), False),
        (Boost(4.0, category="war"), True),
        (Boost(4.0, category="drama"), False),
        (Boost(4.0, attribute=("lang", "nl")), True),
        (Boost(4.0, attribute=("lang", "en")), False),
        (Boost(4.0, attribute=("brand", "")), False),
    ],
)
def test_a_boost_means_items_by_id_category_or_attribute(boost: Boost, means_it: bool) -> None:
    item = Item("i", categories=("war",), attributes={"lang": "nl"})
    factor = log_factor("i", item, [boost, Boost(0.5, item_id="i")])
    assert factor == pytest.approx(np.log(2.0 if means_it else 0.5))


def test_a_boost_multiplies_the_odds_of_a_probability() -> None:
    """0.5 has odds 1, times 3 gives 3 of 4; 0.2 has odds 1/4, halved 1/9. A mix of weight 2 lies in 0..2."""
    scores = np.array([0.5, 0.2, 0.2, np.nan], np.float32)
    factors = np.log(np.array([3.0, 0.5, 1.0, 3.0], np.float32))
    np.testing.assert_allclose(multiplied(scores, factors, (0.0, 1.0)), [0.75, 1 / 9, 0.2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(
        multiplied(2 * scores, factors, (0.0, 2.0)), [1.5, 2 / 9, 0.4, np.nan], rtol=1e-6
    )


def test_a_small_boost_of_a_mix_of_probabilities_is_a_small_step() -> None:
    task = TaskInfo("next", link=Link.SIGMOID)
    weights = np.array([1.0], np.float32)
    ranking = ranked(["a", "b"], answer("a", "b", raw=[[0.0, -2.0], [0.0, -3.0]]), (task,), weights)
    assert ranking.bounds == (0.0, 1.0)
    lowered = multiplied(ranking.base, np.log(np.array([0.9, 1.0], np.float32)), ranking.bounds)
    assert ranking.base[0] > lowered[0] > ranking.base[1]


def test_log_odds_of_scores_that_have_no_bounds_are_the_scores() -> None:
    scores = np.array([0.5, 0.0, 1.0], np.float32)
    assert log_odds(scores, None).tolist() == scores.tolist()
    halves, never, surely = log_odds(scores, (0.0, 1.0)).tolist()
    assert halves == 0.0
    assert never == pytest.approx(-surely)
    assert np.isfinite(never)
