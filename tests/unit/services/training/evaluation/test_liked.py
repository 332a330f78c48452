"""The next liked items: who is asked what, and what a model gains that is told labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.training.assemble import Tables, assemble
from services.training.data import TrainingData
from services.training.evaluation.few_shot import BLIND, OFF, ON
from services.training.evaluation.liked import HIDDEN, liked, liked_questions
from services.training.evaluation.liked_report import liked_dict, liked_markdown
from services.training.evaluation.protocol import Protocol, ask
from services.training.roles import RoleSettings
from shared.holdout import Role
from tests.unit.services.training import synthetic
from tests.unit.services.training.evaluation.test_reports import ContentModel


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Everybody rates another kind with one star, and every third time their own with five."""
    world = synthetic.tables(people=80, events=1, items=160)
    rows = []
    for person in range(80):
        for event in range(30):
            mine = event % 3 == 2
            kind = (person + (not mine)) % len(synthetic.KINDS)
            rows.append((f"u{person:03d}", f"i{4 * event + kind:03d}", 5.0 if mine else 1.0, event))
    users, items, stars, times = zip(*rows, strict=True)
    events = {"user_id": users, "item_id": items, "action": [7] * len(rows), "value": stars}
    table = pa.table({**{k: list(v) for k, v in events.items()}, "time_ms": [1000 * t for t in times]})
    return assemble(Tables(table, world.items), RoleSettings(0.5, 0.2))


def questions(data: TrainingData, first: int = 20) -> Any:
    return ask(data, data.users_of(Role.HELD_OUT), Protocol(first, 10))


def test_those_are_asked_whose_support_holds_a_like_and_a_dislike(data: TrainingData) -> None:
    """Four of events 21 to 30 are liked. Nobody is asked who only liked."""
    asked = liked_questions(data, questions(data))
    assert asked.protocol.shots == (10, 20)
    assert len(asked) == len(questions(data)) > 20
    for user, wanted in zip(asked.users, asked.relevant, strict=True):
        later = slice(data.offsets[user] + 20, data.offsets[user + 1])
        assert sorted(wanted) == sorted(data.items[later][data.values[later] == 5.0])
        assert len(wanted) == 4
    only_liked = replace(data, values=np.full_like(data.values, 5.0))
    assert len(liked_questions(only_liked, questions(only_liked))) == 0


def test_a_short_protocol_asks_after_what_it_has(data: TrainingData) -> None:
    assert liked_questions(data, questions(data, 5)).protocol.shots == (5,)
    assert len(liked_questions(data, questions(data, 3))) == 0


def test_a_model_that_reads_labels_knows_better_what_is_liked(data: TrainingData) -> None:
    model: Any = ContentModel(data)
    table = liked(data, questions(data), {ON: [model], OFF: [model]})
    assert table.ndcg(ON, 20) == table.ndcg(OFF, 20) > table.ndcg(HIDDEN, 20)
    found = liked_dict(table)
    assert found["people"] == len(table.questions)
    assert found["rows"][1]["differences"][f"{ON} − {HIDDEN}"]["low"] > 0.0
    told = "\n".join(liked_markdown(found))
    assert "labels hidden" in told
    assert told.splitlines()[-2].endswith(" | 0% |")  # on is off here
    assert BLIND not in told
    assert np.count_nonzero([line.startswith("| 20 |") for line in told.splitlines()]) == 1


def test_a_model_trained_blind_to_labels_is_told_none(data: TrainingData) -> None:
    model: Any = ContentModel(data)
    table = liked(data, questions(data), {ON: [model], OFF: [model], BLIND: [model]})
    assert table.ndcg(BLIND, 20) == table.ndcg(HIDDEN, 20) < table.ndcg(ON, 20)
    found = liked_dict(table)
    assert found["rows"][1]["differences"][f"{ON} − {BLIND}"]["low"] > 0.0
    assert "blind to labels: trained and asked so" in "\n".join(liked_markdown(found))


def test_nobody_to_ask_is_said(data: TrainingData) -> None:
    model: Any = ContentModel(data)
    table = liked(data, questions(data, 3), {ON: [model], OFF: [model]})
    assert "Nobody" in "\n".join(liked_markdown(liked_dict(table)))
