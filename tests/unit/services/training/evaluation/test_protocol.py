"""Who is asked what, and what the baselines answer."""

from __future__ import annotations

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.evaluation.baselines import Knn, best_item_knn, fitted_grid, item_knn, popularity
from services.training.evaluation.metrics import ndcg_at
from services.training.evaluation.protocol import (
    Past,
    Protocol,
    ask,
    context_of,
    contexts,
    fitting_protocol,
    support_items,
)
from services.training.roles import RoleSettings
from shared.context.profiles import content_profile
from shared.domain import Action
from shared.holdout import Role
from tests.unit.services.training import synthetic


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(), RoleSettings(0.3, 0.2))


def test_support_is_the_latest_of_the_first_events_and_the_query_follows_it(data: TrainingData) -> None:
    protocol = Protocol(first_events=5, query_events=3)
    questions = ask(data, data.users_of(Role.HELD_OUT), protocol)
    start = data.offsets[questions.users[0]]
    own = data.items[start : start + 8]
    assert support_items(data, questions, 2)[0].tolist() == own[3:5].tolist()
    assert len(support_items(data, questions, 0)[0]) == 0
    assert sorted(questions.masked[0].tolist()) == sorted(own[:5].tolist())
    assert sorted(questions.relevant[0].tolist()) == sorted(own[5:].tolist())
    assert questions.moments[0] == data.time_ms[start + 5]
    assert protocol.shots == (0, 1, 2, 5)


def test_where_histories_are_short_the_last_events_are_asked_after_up_to_three(data: TrainingData) -> None:
    protocol = Protocol.of_last(5)
    questions = ask(data, data.users_of(Role.HELD_OUT), protocol)
    own = data.items[data.offsets[questions.users[0]] : data.offsets[questions.users[0] + 1]]
    assert protocol.shots == (0, 1, 2, 3)
    assert protocol.needed_events == 8
    assert support_items(data, questions, 3)[0].tolist() == own[-8:-5].tolist()
    assert sorted(questions.relevant[0].tolist()) == sorted(own[-5:].tolist())
    assert sorted(questions.masked[0].tolist()) == sorted(own[:-5].tolist())
    assert questions.moments[0] == data.time_ms[data.offsets[questions.users[0] + 1] - 5]


def test_only_people_with_enough_events_are_asked(data: TrainingData) -> None:
    held_out = data.users_of(Role.HELD_OUT)
    assert len(ask(data, held_out, Protocol(10, 4))) == len(held_out)
    assert len(ask(data, held_out, Protocol(20, 10))) == 0


def test_a_small_data_set_gets_a_shorter_protocol(data: TrainingData) -> None:
    # 14 events each: (20, 10) and (10, 10) need more, (10, 5) too; (5, 5) fits.
    assert fitting_protocol(data, data.users_of(Role.TRAIN)) == Protocol(5, 5)
    assert fitting_protocol(data, np.zeros(0, np.int32)) == Protocol(1, 1)


def test_a_few_people_with_many_events_get_the_long_protocol() -> None:
    data = assemble(synthetic.tables(people=12, events=34, items=60), RoleSettings())
    people = data.users_of(Role.HELD_OUT)
    assert 0 < len(people) < 30
    assert fitting_protocol(data, people) == Protocol(20, 10)


def test_a_context_knows_the_support_and_nothing_else_of_the_past(data: TrainingData) -> None:
    questions = ask(data, data.users_of(Role.HELD_OUT), Protocol(5, 5))
    context = contexts(data, questions, 2)[0]
    start = data.offsets[questions.users[0]] + 3
    part = slice(start, start + 2)
    assert context.history.item_ids == tuple(data.item_ids[i] for i in data.items[part])
    assert context.request.time_ms == questions.moments[0]
    expected = content_profile(
        data.content[data.items[part]], data.labels[part], data.time_ms[part], int(questions.moments[0])
    )
    np.testing.assert_allclose(context.content_profile, expected, atol=1e-6)
    nothing = contexts(data, questions, 0)[0]
    assert len(nothing.history) == 0
    assert not nothing.content_profile.any()


def test_one_more_event_is_the_newest_of_the_history(data: TrainingData) -> None:
    past = Past.of(data, 0, 2).then(7, Action.DISLIKE, 10**13)
    context = context_of(data, 0, past, np.zeros(16, np.float32), 10**13)
    assert context.history.item_ids[-1] == data.item_ids[7]
    assert context.history.actions[-1] == Action.DISLIKE
    assert context.total_events == 3


def test_popularity_counts_training_people_alone_and_leaves_seen_items_out(data: TrainingData) -> None:
    order = np.argsort(-data.popularity(Role.TRAIN), kind="stable")
    seen = order[:3].astype(np.int32)
    ranked = popularity(data)([np.zeros(0, np.int32)], [seen], 10)
    assert ranked[0].tolist() == order[3:13].tolist()


@pytest.mark.parametrize("weighting", ["cosine", "tf-idf", "bm25"])
def test_item_knn_recommends_the_kind_that_the_support_is_of(data: TrainingData, weighting: str) -> None:
    support = np.array([0, 4], np.int32)  # two items of kind 0
    seen = np.array([0, 4, 8], np.int32)
    ranked = item_knn(data, Knn(weighting, 20))([support], [seen], 5)[0]
    assert len(ranked) == 5
    assert all(item % 4 == 0 for item in ranked)
    assert not set(ranked) & set(seen.tolist())


def test_item_knn_has_no_answer_without_support(data: TrainingData) -> None:
    ranked = item_knn(data, Knn("cosine", 20))([np.zeros(0, np.int32)], [np.zeros(0, np.int32)], 3)
    assert ranked.tolist() == [[-1, -1, -1]]


def test_item_knn_similarity_is_the_cosine_of_the_items_people() -> None:
    """Two people have a and b, one has a and c: cos(a, b) = 2/√(3·2) > cos(a, c) = 1/√(3·1)."""
    import pyarrow as pa

    from services.training.assemble import Tables

    log = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "a"), ("w", "c")]
    table = pa.table(
        {
            "user_id": [u for u, _ in log],
            "item_id": [i for _, i in log],
            "action": [4] * 6,
            "value": [0.0] * 6,
            "time_ms": list(range(6)),
        }
    )
    small = assemble(Tables(table), RoleSettings(0.0, 0.0))
    a = np.array([0], np.int32)
    assert item_knn(small, Knn("cosine", 3))([a], [a], 2)[0].tolist() == [1, 2]


def test_tuning_takes_the_best_of_the_grid_on_the_given_people(data: TrainingData) -> None:
    questions = ask(data, data.users_of(Role.VALIDATION), Protocol(5, 5))
    grid = fitted_grid(data)
    support = support_items(data, questions, 2)
    scores = {
        knn: ndcg_at(recommend(support, questions.masked, 10), questions.relevant, 10).mean()
        for knn, recommend in grid.items()
    }
    assert len(grid) == 15
    assert scores[best_item_knn(grid, data, questions, 2)] == max(scores.values())
