"""What a training refuses before it has taken any time."""

from __future__ import annotations

import pytest

from services.training.assemble import assemble
from services.training.pipeline import TooFewPeople, check_people
from services.training.roles import RoleSettings
from tests.unit.services.training import synthetic


@pytest.mark.parametrize(
    ("events", "strangers", "message"),
    [
        (4, frozenset(), "nobody is left to judge the model by: of 0 held-out people none has 2 or more"),
        (1, frozenset({"u0001"}), "nobody is left to judge the model by: of 1 held-out people none has 2"),
        (4, None, "no people are left to train on: lower --held-out-share"),
    ],
)
def test_too_few_people_are_said_before_training(
    events: int, strangers: frozenset[str] | None, message: str
) -> None:
    tables = synthetic.tables(people=6, events=events, items=30)
    everybody = frozenset(assemble(tables, RoleSettings()).user_ids)
    named = everybody if strangers is None else frozenset(sorted(everybody)[: len(strangers)])
    with pytest.raises(TooFewPeople, match=message):
        check_people(assemble(tables, RoleSettings(held_out_ids=named)))


def test_one_stranger_of_two_events_is_enough() -> None:
    tables = synthetic.tables(people=6, events=2, items=30)
    one = sorted(assemble(tables, RoleSettings()).user_ids)[:1]
    check_people(assemble(tables, RoleSettings(held_out_ids=frozenset(one))))
