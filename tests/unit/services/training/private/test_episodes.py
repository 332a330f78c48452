"""Who contributes to a step, and what of theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData, offsets_of
from services.training.episodes import EpisodeShape
from services.training.private.episodes import Contribution, contributions, sampled
from services.training.private.secret import SECRET_BYTES, Secret
from services.training.roles import RoleSettings
from tests.unit.services.training import synthetic

SECRET = Secret(b"e" * SECRET_BYTES)
FEW = Contribution(episodes=2, together=8, shape=EpisodeShape(max_shots=6, query=3, thin_share=0.0))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=40, events=12, items=30), RoleSettings(0.0, 0.0))


def test_each_person_takes_part_by_themselves_with_the_probability_accounted_for(data: TrainingData) -> None:
    """Poisson sampling: 400 steps of 40 people at .3, so .3 ± .0036; and sizes vary as a binomial's, whose
    variance is 40 · .3 · .7 = 8.4."""
    steps = [sampled(data, 0.3, SECRET, step) for step in range(400)]
    assert np.mean([len(s) for s in steps]) / 40 == pytest.approx(0.3, abs=0.012)
    assert np.var([len(s) for s in steps]) == pytest.approx(8.4, rel=0.3)
    taken = np.zeros((400, 40))
    for step, people in enumerate(steps):
        taken[step, people] = 1.0
    together = np.corrcoef(taken.T)[np.triu_indices(40, 1)]
    assert np.abs(together).mean() < 0.06
    assert np.abs(taken.mean(axis=0) - 0.3).max() < 0.1


def test_who_takes_part_does_not_depend_on_who_comes_after_them(data: TrainingData) -> None:
    fewer = data.select_users(np.arange(40) < 25)
    whole = sampled(data, 0.3, SECRET, 7)
    np.testing.assert_array_equal(sampled(fewer, 0.3, SECRET, 7), whole[whole < 25])


def test_the_last_batch_is_filled_with_people_who_are_not_present(data: TrainingData) -> None:
    batches = list(contributions(data, np.arange(11, dtype=np.int32), FEW, SECRET, 0))
    assert [batch["present"].sum() for batch in batches] == [8.0, 3.0]
    for batch in batches:
        assert batch["items"].shape == (8, 2, 6)
        assert batch["targets"].shape == (8, 2, 3)
        assert batch["excluded"].shape == (8, 2, 30)


def test_two_workers_have_the_batches_that_one_has(data: TrainingData) -> None:
    people = np.arange(29, dtype=np.int32)
    alone = list(contributions(data, people, FEW, SECRET, 5))
    shared = [list(contributions(data, people, FEW, SECRET, 5, worker=w, num_workers=2)) for w in range(2)]
    assert [len(part) for part in shared] == [2, 2]
    for number, batch in enumerate(alone):
        for name, column in shared[number % 2][number // 2].items():
            np.testing.assert_array_equal(column, batch[name], err_msg=name)


def test_a_person_contributes_their_own_events_and_nothing_else(data: TrainingData) -> None:
    (batch,) = contributions(data, np.array([3], np.int32), FEW, SECRET, 0)
    own = set(data.items[data.offsets[3] : data.offsets[4]].tolist())
    shown = batch["items"][0][batch["mask"][0] > 0].tolist()
    assert set(shown) <= own
    assert set(batch["targets"][0][batch["next_weight"][0] > 0].tolist()) <= own
    assert not batch["social_profile"].any()


def test_who_has_one_event_takes_part_with_nothing(data: TrainingData) -> None:
    lengths = data.lengths.copy()
    lengths[3] = 1
    kept = np.concatenate([np.arange(12) < wanted for wanted in lengths])
    columns = {name: getattr(data, name)[kept] for name in ("items", "actions", "values", "time_ms")}
    short = replace(data, offsets=offsets_of(lengths), **columns)
    assert list(contributions(short, np.array([3], np.int32), FEW, SECRET, 0)) == []
