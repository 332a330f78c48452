"""Stars of strangers and of new items: who is asked what, and figures worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.evaluation.few_shot import OFF, ON
from services.training.evaluation.rating import (
    BOTH_NEW,
    NEW_ITEM,
    NEW_USER,
    QUERY,
    StarQuestions,
    answers_of,
    by_served,
    new_items,
    scenarios,
    score,
    star_table,
    validation_questions,
)
from services.training.evaluation.rating_baselines import (
    FACTORS,
    FEW_FACTORS,
    LEVEL,
    LinearStars,
    answers_of_tuned,
    training_stars,
)
from services.training.evaluation.rating_report import PLOT, plot_rating, rating_dict, rating_markdown
from services.training.roles import RoleSettings
from shared.domain import Action, UserContext
from shared.errors import InvalidInput
from shared.holdout import Role
from tests.unit.services.training import synthetic


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """60 people with 40 ratings each; every third of 90 items is of 1999."""
    made = assemble(synthetic.tables(people=60, events=50, items=90), RoleSettings(0.3, 0.3))
    years = [1999 if n % 3 == 0 else 1980 for n in range(made.num_items)]
    return replace(made, titles=tuple(f"{t} ({y})" for t, y in zip(made.titles, years, strict=True)))


def test_new_items_are_told_by_the_year_in_their_titles(data: TrainingData) -> None:
    assert new_items(data).tolist() == list(range(0, 90, 3))
    with pytest.raises(InvalidInput, match=r"titles end in \(year\)"):
        new_items(replace(data, titles=("Alien",) * 90))


def test_each_scenario_asks_ten_of_its_own_kind_and_gives_the_others(data: TrainingData) -> None:
    new = new_items(data)
    asked = scenarios(data, new, seed=0)
    strangers = set(data.users_of(Role.HELD_OUT).tolist())
    for name, fresh, strange in ((NEW_USER, False, True), (NEW_ITEM, True, False), (BOTH_NEW, True, True)):
        questions = asked[name]
        assert len(questions)
        for user, support, query in zip(questions.users, questions.support, questions.query, strict=True):
            places = np.concatenate([support, query])
            assert (user in strangers) == strange
            assert len(query) == QUERY
            assert len(support) >= 3
            assert (np.isin(data.items[places], new) == fresh).all()
            own = np.arange(data.offsets[user], data.offsets[user + 1])
            kind = own[np.isin(data.items[own], new) == fresh]
            assert sorted(places) == kind.tolist()
            assert (np.diff(support) > 0).all()


def test_people_with_too_few_or_too_many_ratings_are_not_asked(data: TrainingData) -> None:
    few = replace(data, actions=np.where(np.arange(data.num_events) % 6 == 0, 7, 4).astype(np.int32))
    assert not any(len(questions) for questions in scenarios(few, new_items(few), seed=0).values())


def test_the_draw_is_the_seeds_and_validation_people_answer_another(data: TrainingData) -> None:
    new = new_items(data)
    one, same, other = (scenarios(data, new, seed=seed)[NEW_USER].query for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    judges = set(data.users_of(Role.VALIDATION).tolist())
    assert set(validation_questions(data, new, seed=0).users.tolist()) <= judges


def questions_of(users: list[int], support: list[list[int]], query: list[list[int]]) -> StarQuestions:
    return StarQuestions(
        np.array(users, np.int32), [np.array(s, np.int64) for s in support], np.array(query, np.int64)
    )


def test_errors_by_hand() -> None:
    """Said 4.4 and 6 (brought to 5) where 5 and 3 were given: MAE (.6 + 2)/2, rounded (1 + 2)/2."""
    values: Any = type("Data", (), {"values": np.array([5.0, 3.0], np.float32)})()
    questions = questions_of([0], [[0]], [[0, 1]])
    found = score(values, questions, [np.array([[4.4, 6.0]], np.float32)])
    assert found.mae == pytest.approx(1.3, abs=1e-6)
    assert found.rmse == pytest.approx(np.sqrt((0.36 + 4.0) / 2), abs=1e-6)
    assert found.mae_of_whole_stars == pytest.approx(1.5)


def test_a_level_by_hand() -> None:
    """Mean 3, biases 1 and 0; one gave the first item 5, which is 1 above: level 1/(1 + 1); the second gets
    3.5."""
    data: Any = type("Data", (), {"values": np.array([5.0, 0.0]), "items": np.array([0, 1])})()
    model = LinearStars(3.0, np.array([1.0, 0.0]), np.ones((2, 1)), np.array([1.0]))
    assert model.one(data, np.array([0]), np.array([1])).tolist() == [3.5]


def test_baselines_are_trained_on_old_people_and_old_items_alone(data: TrainingData) -> None:
    new = new_items(data)
    stars: csr_matrix = training_stars(data, new)
    assert set(np.flatnonzero(np.diff(stars.indptr)).tolist()) <= set(data.users_of(Role.TRAIN).tolist())
    assert not np.isin(new, stars.indices).any()
    assert training_stars(data, new, as_many=True).nnz <= stars.nnz


class KindModel:
    """Foretells 4.5 stars for items of the kind that a person gave the most to, 2 for others."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self.number = {item_id: n for n, item_id in enumerate(data.item_ids)}

    def task_number(self, task: str) -> int:
        return 1

    def rows(self, item_ids: tuple[str, ...]) -> Any:
        return np.array([[self.number[i] % 4] for i in item_ids], np.float32)

    def values(self, contexts: list[UserContext], rows: list[Any], *, adapt: bool = True) -> Any:
        for context, own in zip(contexts, rows, strict=True):
            history = context.history
            assert (history.actions == int(Action.RATING)).all()
            best = [
                self.number[i] % 4 for i, v in zip(history.item_ids, history.values, strict=True) if v >= 4
            ]
            kind = max(set(best), key=best.count) if best and adapt else -1
            stars = np.where(own[:, 0] == kind, 4.5, 2.0)
            yield np.stack([np.zeros(len(own)), stars], axis=1).astype(np.float32)


def test_a_model_that_knows_the_world_beats_the_baselines_and_the_report_says_so(
    data: TrainingData, tmp_path: Any
) -> None:
    new = new_items(data)
    asked = scenarios(data, new, seed=0)
    served: Any = KindModel(data)
    arms = {name: [answers] for name, answers in answers_of_tuned(data, asked, new, 0).items()}
    assert list(arms) == [LEVEL, FACTORS, FEW_FACTORS]
    on, off = (answers_of(by_served(data, served, adapt=adapt), asked) for adapt in (True, False))
    arms |= {OFF: [off], ON: [on, on]}
    table = star_table(data, asked, arms)
    for scenario in asked:
        assert table.arms[ON][scenario].mae < 0.5 + 1e-6
        assert table.arms[ON][scenario].mae < table.arms[LEVEL][scenario].mae
        assert table.difference(ON, LEVEL, scenario).high < 0.0
    assert table.arms[FACTORS][NEW_USER].mae < table.arms[LEVEL][NEW_USER].mae
    result = rating_dict(table, people=18, items=len(new))
    assert result["seeds"] == 2
    assert sum(group["people"] for group in result["by_ratings_given"][NEW_USER]) == len(asked[NEW_USER])
    text = "\n".join(rating_markdown(result))
    assert f"| {ON} | {table.arms[ON][NEW_USER].mae:.4f} / " in text
    larger = (table.arms[ON][NEW_USER].absolute > table.arms[FACTORS][NEW_USER].absolute).mean()
    assert f"| people with a larger MAE: {ON} than {FACTORS} | {larger:.0%} |" in text
    plot_rating(result, tmp_path / PLOT)
    assert (tmp_path / PLOT).stat().st_size > 1000


def test_where_nobody_has_enough_ratings_the_report_says_so(data: TrainingData) -> None:
    short = replace(data, actions=np.full_like(data.actions, int(Action.LIKE)))
    served: Any = KindModel(data)
    asked = scenarios(short, new_items(data), seed=0)
    arms = {name: [answers_of(by_served(short, served), asked)] for name in (FACTORS, OFF, ON)}
    result = rating_dict(star_table(short, asked, arms), people=0, items=30)
    assert "Nobody has 13 to 100 ratings" in "\n".join(rating_markdown(result))
