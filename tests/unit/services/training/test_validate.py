"""What validation people are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from services.training import validate
from services.training.assemble import assemble
from services.training.presets import preset
from services.training.pretrain import new_model
from services.training.roles import RoleSettings
from services.training.scores import ScoreParts
from services.training.validate import GAMMA_FACTORS, crests, ndcg_at_10, near_best, over_shots
from shared.holdout import Role
from tests.unit.services.training import synthetic

NEUTRAL = GAMMA_FACTORS.index(1.0)


def figures(by_factor: list[float], noise: float, episodes: int = 100) -> np.ndarray:
    """[factors, episodes]: the same mean as told, half of the episodes above it and half below, by factor."""
    signs = np.where(np.arange(episodes) % 2 == 0, 1.0, -1.0)
    means = np.array(by_factor)[:, None]
    return means + noise * signs * np.linspace(0.0, 1.0, len(by_factor))[:, None]


def test_a_factor_that_is_clearly_better_is_taken() -> None:
    rising = [0.1 + 0.02 * place for place in range(len(GAMMA_FACTORS))]
    assert near_best(figures(rising, noise=0.0)) == len(GAMMA_FACTORS) - 1


def test_a_factor_that_is_better_by_chance_is_not() -> None:
    """A rise of .002 a place, errors of .2 / √100 = .02 at the far end: 1 stays."""
    rising = [0.1 + 0.002 * place for place in range(len(GAMMA_FACTORS))]
    assert near_best(figures(rising, noise=0.8)) == NEUTRAL


def test_of_those_near_the_best_the_one_nearest_to_doing_nothing_is_taken() -> None:
    flat = figures([0.1, *[0.3] * (len(GAMMA_FACTORS) - 1)], noise=0.0)
    assert near_best(flat) == NEUTRAL


def curves(*by_shots: list[float]) -> np.ndarray:
    """[shots, 1 task, factors, 4 episodes], of which one says nothing."""
    table = np.repeat(np.array(by_shots)[:, None, :, None], 4, axis=3)
    table[..., 3] = np.nan
    return table


def test_the_crest_of_a_curve_is_taken_and_neighbouring_numbers_of_shots_have_a_say() -> None:
    """Factors 0 1 2 3; more than at factor 0, by hand, before factors are averaged:

    shots 0: 3/4 (0 1 2 1) + 1/4 (0 2 1 0) = (0 1.25 1.75 .75), averaged (.3125 1.0625 1.375 1) → 2
    shots 1: 1/4 (0 1 2 1) + 1/2 (0 2 1 0) + 1/4 (0 4 0 0) = (0 2.25 1 .25), averaged (.5625 1.375 1.125
    .4375) → 1
    shots 2: 1/4 (0 2 1 0) + 3/4 (0 4 0 0) = (0 3.5 .25 0), averaged (.875 1.8125 1 .0625) → 1
    """
    table = curves([0.0, 1.0, 2.0, 1.0], [5.0, 7.0, 6.0, 5.0], [0.0, 4.0, 0.0, 0.0])
    assert crests(table).tolist() == [[2], [1], [1]]


def test_where_no_factor_helps_the_first_is_taken() -> None:
    assert crests(curves([0.2, 0.1, 0.0], [0.2, 0.1, 0.0])).tolist() == [[0], [0]]
    assert crests(np.full((2, 1, 3, 4), np.nan)).tolist() == [[0], [0]]


def test_where_no_factor_is_better_than_the_one_to_start_from_that_is_taken() -> None:
    """Also where another is as good."""
    assert crests(curves([0.1, 0.2, 0.1]), 1).tolist() == [[1]]
    assert crests(curves([0.2, 0.2, 0.2]), 1).tolist() == [[1]]
    assert crests(curves([0.3, 0.2, 0.1]), 1).tolist() == [[0]]
    assert crests(np.full((2, 1, 3, 4), np.nan), 1).tolist() == [[1], [1]]


def test_episodes_that_want_nothing_have_no_say() -> None:
    falling = figures([0.5 - 0.02 * place for place in range(len(GAMMA_FACTORS))], noise=0.0)
    silent = np.full((len(GAMMA_FACTORS), 50), np.nan)
    assert near_best(np.concatenate([falling, silent], axis=1)) == 0
    assert near_best(silent) == NEUTRAL


def test_ndcg_of_a_hand_worked_list() -> None:
    """Items 3 and 0 are wanted; the list begins 3, 1, 0: (1 + 1/log2(4)) / (1 + 1/log2(3)). Of equal
    scores the first in the catalogue comes first: with all equal, 0 is first and 3 fourth."""
    targets, there = np.array([[3, 0, 9]], np.int32), np.array([[1.0, 1.0, 0.0]], np.float32)
    ideal = 1.0 + 1.0 / np.log2(3.0)
    ranked = np.array([[1.0, 2.0, 0.0, 3.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0]], np.float32)
    assert ndcg_at_10(ranked, targets, there)[0] == pytest.approx(1.5 / ideal)
    assert ndcg_at_10(0.0 * ranked, targets, there)[0] == pytest.approx((1.0 + 1.0 / np.log2(5.0)) / ideal)


def test_ndcg_of_a_catalogue_shorter_than_the_list() -> None:
    found = ndcg_at_10(np.zeros((1, 2), np.float32), np.array([[1]], np.int32), np.ones((1, 1), np.float32))
    assert found[0] == pytest.approx(1.0 / np.log2(3.0))


def test_shots_count_where_there_is_room_for_them() -> None:
    """Two numbers of shots, one task and factor, three episodes: the mean of what each has."""
    nan = np.nan
    tables = np.array([[[[0.2, 0.4, nan]]], [[[0.6, nan, nan]]]], np.float32)
    np.testing.assert_allclose(over_shots(tables), [[[0.4, 0.4, nan]]], rtol=1e-6)


def test_short_histories_are_looked_at_after_as_many_shots_as_they_have() -> None:
    """14 events: people are asked after 3 and 6 (12 has no room for 5 more), which 20 shots never fit; those
    of 5 fit the later moment alone."""
    data = assemble(synthetic.tables(people=30, events=14, items=40), RoleSettings(0.0, 0.5))
    people = data.users_of(Role.VALIDATION)
    sizes = replace(preset("tiny").model, content_dim=synthetic.CONTENT_DIM)
    model = new_model(sizes, data, seed=0)
    tables = validate._tables(model, data, people, (0, 1, 5, 20), (0.0, 1.0), ScoreParts.by_gamma)
    assert tables.shape == (3, 2, 2, 2 * len(people))
    first, later = np.split(tables[:, 0, 0], 2, axis=1)
    assert np.isnan(first).all(axis=1).tolist() == [False, False, True]
    assert not np.isnan(later).any()
    apart = [validate.look(model, data, people, (k,)) for k in (0, 1, 5)]
    assert validate.look(model, data, people, (0, 1, 5, 20)) == pytest.approx(np.mean(apart))
    assert apart[2] == pytest.approx(later[2].mean())
    assert 0.0 < validate.choose_gamma(model, data, people, (1, 5, 20)).ndcg < 1.0


def test_without_people_of_enough_events_there_is_nothing_to_see() -> None:
    data = assemble(synthetic.tables(people=10, events=4, items=40), RoleSettings(0.0, 0.5))
    model = new_model(replace(preset("tiny").model, content_dim=synthetic.CONTENT_DIM), data, seed=0)
    people = data.users_of(Role.VALIDATION)
    assert validate.look(model, data, people, (0, 1)) == 0.0
    assert validate.choose_gamma(model, data, people, (1,)) == validate.Chosen(0.0, (1.0, 1.0))
