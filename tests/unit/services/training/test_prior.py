"""How much the state counts where nothing is known of a person."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.presets import preset
from services.training.roles import RoleSettings
from shared.holdout import Role
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Each of 26 items is chosen a quarter less often than the one before it in the alphabet."""
    rng = np.random.default_rng(0)
    weights = 0.75 ** np.arange(26.0)
    drawn = [rng.choice(26, size=14, replace=False, p=weights / weights.sum()) for _ in range(80)]
    lines = ["".join(LETTERS[n] for n in line) for line in drawn]
    return assemble(synthetic.histories(lines), RoleSettings(0.0, 0.3))


def model_of(data: TrainingData) -> Any:
    from services.training.pretrain import new_model

    return new_model(replace(preset("tiny").model, content_dim=data.content.shape[1]), data, seed=0)


def ndcg_of_the_unknown(model: Any, data: TrainingData) -> float:
    from services.training.validate import look

    return look(model, data, data.users_of(Role.VALIDATION), (0,))


def test_a_state_that_knows_less_than_popularity_counts_less(data: TrainingData) -> None:
    """Here what is chosen first has no reason but popularity; a state of an untrained body is noise."""
    from services.training.prior import scale_prior

    model = model_of(data)
    loud = model.heads.log_tau.numpy()
    loud[:, 0] += 3.0
    model.heads.log_tau.assign(loud)
    before, nothing = model.state_arrays(), ndcg_of_the_unknown(model, data)
    scale_prior(model, data)
    after = model.state_arrays()
    assert [name for name in before if not np.array_equal(before[name], after[name])] == [
        model.heads.log_tau.path
    ]
    changed = after[model.heads.log_tau.path] - loud
    assert changed[0, 0] < np.log(0.5)
    np.testing.assert_array_equal(changed[1:], 0.0)  # of nobody of whom something is known
    np.testing.assert_array_equal(changed[:, 2:], 0.0)  # nor of ratings
    assert ndcg_of_the_unknown(model, data) > nothing + 0.05


@pytest.mark.parametrize(
    ("gains", "sure"),
    [
        ([0.1, 0.1, 0.1], True),
        ([0.3, -0.1, 0.1], False),  # .1 with a standard error of .2/√3 = .115
        ([0.3, -0.1, 0.1, 0.1], True),  # .1 with .163/√4 = .082
        ([0.3, np.nan, -0.1, 0.1, np.nan], False),  # who has no say has none
        ([0.0, 0.0, 0.0], False),
        ([0.5], False),  # one person speaks for anything
        ([], False),
    ],
)
def test_a_gain_counts_that_is_larger_than_its_standard_error(gains: list[float], sure: bool) -> None:
    from services.training.validate import is_sure

    assert is_sure(np.array(gains), people=4) is sure


def test_episodes_of_the_same_people_are_no_further_people() -> None:
    """.1 with a standard error of .163/√4 = .082 of four people, and .163/√2 = .115 of two asked twice."""
    from services.training.validate import is_sure

    gains = np.array([0.3, -0.1, 0.1, 0.1])
    assert is_sure(gains, people=4)
    assert not is_sure(gains, people=2)


def test_where_nobody_can_be_asked_the_state_counts_as_it_did(data: TrainingData) -> None:
    from services.training.prior import scale_prior

    model = model_of(data)
    before = model.heads.log_tau.numpy()
    scale_prior(model, data.select_users(data.roles == Role.TRAIN))
    np.testing.assert_array_equal(model.heads.log_tau.numpy(), before)
