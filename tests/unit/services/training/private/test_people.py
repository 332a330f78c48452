"""Whom the promise is made to, and what is left out for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.training.assemble import Tables, assemble
from services.training.data import Neighbours, TrainingData
from services.training.private import people
from services.training.private.people import of_catalogue, private_people
from services.training.roles import RoleSettings
from shared.errors import InvalidInput
from shared.holdout import Role
from tests.unit.services.training import synthetic


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=40, events=12, items=30), RoleSettings(0.2, 0.3))


def test_items_are_those_of_the_catalogue_whatever_people_did(data: TrainingData) -> None:
    table = synthetic.tables(people=40, events=12, items=30)
    fewer = assemble(Tables(table.events, items=table.items.slice(0, 20)), RoleSettings(0.2, 0.3))
    assert fewer.num_items == 30  # events name the others
    found = of_catalogue(fewer, [f"i{n:03d}" for n in range(20)])
    assert found.item_ids == tuple(f"i{n:03d}" for n in range(20))
    assert found.num_events < fewer.num_events
    assert found.user_ids == fewer.user_ids
    assert of_catalogue(data, data.item_ids) is data


def test_without_a_catalogue_or_with_too_large_a_one_it_is_refused(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="items must be given with --private-epsilon"):
        of_catalogue(data, [])
    monkeypatch.setattr(people, "FULL_SOFTMAX_ITEMS", 29)
    with pytest.raises(InvalidInput, match="items must be at most 29 with --private-epsilon, got 30"):
        of_catalogue(data, data.item_ids)


def test_validation_people_are_trained_on_and_held_out_people_are_gone(data: TrainingData) -> None:
    found = private_people(data, 1e-6)
    assert found.num_users == 40 - len(data.users_of(Role.HELD_OUT))
    assert set(found.roles.tolist()) == {int(Role.TRAIN)}


def test_nobody_stands_in_another_persons_features(data: TrainingData) -> None:
    friends = Neighbours(
        np.arange(41, dtype=np.int64),
        np.roll(np.arange(40, dtype=np.int32), 1),
        np.ones(40, np.float32),
        np.zeros(40, np.int64),
    )
    assert not len(private_people(replace(data, neighbours=friends), 1e-6).neighbours.users)


def test_a_delta_that_would_give_somebody_away_is_refused(data: TrainingData) -> None:
    trained = 40 - len(data.users_of(Role.HELD_OUT))
    with pytest.raises(
        InvalidInput, match=f"--private-delta must be below 1 / {trained}, the people trained"
    ):
        private_people(data, 1.0 / trained)
    assert private_people(data, 0.99 / trained).num_users == trained
