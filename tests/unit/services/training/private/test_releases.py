"""Releases: nobody moves a sum by more than the sensitivity that the noise is made for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from services.training.assemble import Tables, assemble
from services.training.data import TrainingData
from services.training.private.people import private_people
from services.training.private.releases import (
    Popularity,
    person_tastes,
    person_vectors,
    release_popularity,
    release_together,
)
from services.training.private.secret import SECRET_BYTES, Secret
from services.training.roles import RoleSettings
from shared.artifacts import Mechanism
from tests.unit.services.training import synthetic

SECRET = Secret(b"r" * SECRET_BYTES)
SILENT = Mechanism("popularity", 1.0, 0.0)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    whole = assemble(synthetic.tables(people=40, events=20, items=30), RoleSettings(0.2, 0.2))
    return private_people(whole, 1e-6)


def without(data: TrainingData, person: int) -> TrainingData:
    return data.select_users(np.arange(data.num_users) != person)


def as_vector(told: Popularity) -> np.ndarray:
    """The sum that noise is put on."""
    chosen, liked, there = np.sqrt((0.72, 0.24, 0.04))
    return np.concatenate([chosen * told.chosen, liked * told.liked, [there * told.people]])


def test_a_person_of_four_items_two_of_them_liked_counts_a_half_for_each() -> None:
    """n = 4: 1/√4 each; liked n = 2: 1/√2 each. Whatever comes twice counts once."""
    told = Tables(
        pa.table(
            {
                "user_id": ["ann"] * 5,
                "item_id": ["a", "b", "c", "d", "a"],
                "action": [7] * 5,
                "value": [5.0, 5.0, 1.0, 2.0, 5.0],
                "time_ms": [1, 2, 3, 4, 5],
            }
        )
    )
    one = assemble(told, RoleSettings(0.0, 0.0))
    found = release_popularity(one, SILENT, SECRET)
    np.testing.assert_allclose(found.chosen, 0.5)
    np.testing.assert_allclose(found.liked, [2**-0.5, 2**-0.5, 0.0, 0.0])
    assert found.people == pytest.approx(1.0)
    assert np.linalg.norm(person_vectors(one).toarray()) == pytest.approx(1.0)


def test_nobody_moves_the_sum_of_popularity_by_more_than_one(data: TrainingData) -> None:
    whole = as_vector(release_popularity(data, SILENT, SECRET))
    moved = [
        np.linalg.norm(whole - as_vector(release_popularity(without(data, person), SILENT, SECRET)))
        for person in range(data.num_users)
    ]
    assert max(moved) <= 1.0 + 1e-9
    assert min(moved) > 0.5


def test_nobody_moves_who_chose_what_together_by_more_than_one(data: TrainingData) -> None:
    """In the coordinates that noise is put on: those off the diagonal once, times √2."""
    popularity = release_popularity(data, SILENT, SECRET)
    told = [
        release_together(some, popularity, 12, replace(SILENT, name="together"), SECRET).matrix
        for some in (data, *(without(data, person) for person in range(data.num_users)))
    ]
    upper = np.triu_indices(12)
    weight = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    moved = [np.linalg.norm(weight * (told[0] - other)[upper]) for other in told[1:]]
    assert 0.1 < max(moved) <= 1.0 + 1e-9


def test_one_who_did_everything_counts_no_more_than_others(data: TrainingData) -> None:
    """All items, a hundred times: still a vector of length 1."""
    many = [f"i{n:03d}" for n in range(30)] * 100
    glutton = Tables(
        pa.table(
            {
                "user_id": ["glutton"] * len(many),
                "item_id": many,
                "action": [4] * len(many),
                "value": [0.0] * len(many),
                "time_ms": list(range(len(many))),
            }
        )
    )
    one = assemble(glutton, RoleSettings(0.0, 0.0))
    assert np.linalg.norm(person_vectors(one).toarray()) == pytest.approx(1.0)
    popularity = release_popularity(data, SILENT, SECRET)
    assert np.linalg.norm(person_tastes(one, popularity, np.arange(30))) <= 1.0


def test_the_noise_is_as_large_as_was_accounted_for(data: TrainingData) -> None:
    silent = release_popularity(data, SILENT, SECRET)
    noisy = release_popularity(data, replace(SILENT, noise_multiplier=3.0), SECRET)
    assert (as_vector(noisy) - as_vector(silent)).std() == pytest.approx(3.0, rel=0.3)
    one, other = (
        release_together(data, silent, 30, Mechanism("together", 1.0, noise), SECRET) for noise in (0.0, 2.0)
    )
    added = other.matrix - one.matrix
    np.testing.assert_allclose(added, added.T)
    assert np.diag(added).std() == pytest.approx(2.0, rel=0.4)
    assert added[np.triu_indices(30, 1)].std() == pytest.approx(2.0 / np.sqrt(2.0), rel=0.1)
