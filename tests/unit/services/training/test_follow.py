"""Transitions: the table by hand, and how much it counts where people do follow it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.presets import preset
from services.training.roles import RoleSettings
from services.training.transitions import transitions
from shared.holdout import Role
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")


ALL_TRAIN = RoleSettings(0.0, 0.0)


def data_of(histories: list[str], roles: RoleSettings = ALL_TRAIN) -> TrainingData:
    return assemble(synthetic.histories(histories), roles)


def test_a_pair_counts_by_its_distance_and_how_often_either_is_chosen() -> None:
    """a b c, and b c: a 1 event, b 2, c 2. b follows a at 1, c at 2; c follows b twice at 1. Nobody goes
    back, and nothing leads from one person to the next."""
    found = transitions(data_of(["abc", "bc"]), 2)
    np.testing.assert_array_equal(found.items, [[1, 2], [2, -1], [-1, -1]])
    wanted = [[1.0 / np.sqrt(2.0), 2.0**-0.5 / np.sqrt(2.0)], [2.0 / 2.0, 0.0], [0.0, 0.0]]
    np.testing.assert_allclose(found.weights, wanted, rtol=1e-6)


def test_the_strongest_stay_and_weights_end_at_one() -> None:
    """a b a b: a leads to b at 1, 3 and 1, over √(2 · 2), which is above 1; to itself it leads nowhere."""
    found = transitions(data_of(["abab"]), 2)
    assert found.items.tolist() == [[1, -1], [0, -1]]
    np.testing.assert_allclose(found.weights, [[1.0, 0.0], [0.5, 0.0]], rtol=1e-6)
    short = transitions(data_of(["abc", "ac"]), 1)
    assert short.items[0].tolist() == [2]


def test_events_further_apart_than_twenty_do_not_follow() -> None:
    line = "a" + "".join(chr(ord("b") + n) for n in range(21))
    found = transitions(data_of([line]), 50)
    assert sorted(found.items[0][found.items[0] >= 0].tolist()) == list(range(1, 21))


def test_only_training_people_make_the_table() -> None:
    data = data_of(["ab"] * 40, RoleSettings(0.3, 0.3))
    here = int((data.roles == int(Role.TRAIN)).sum())
    assert 0 < here < 40
    alone = replace(data, roles=np.full_like(data.roles, int(Role.HELD_OUT)))
    assert (transitions(alone, 1).items == -1).all()
    assert transitions(data, 1).weights[0, 0] == pytest.approx(1.0)


def chain(people: int = 60) -> TrainingData:
    """People walk round a circle of 26 items, each from where they please: the next item is certain."""
    rng = np.random.default_rng(0)
    letters = [chr(ord("a") + n) for n in range(26)]
    lines = ["".join(letters[(start + n) % 26] for n in range(14)) for start in rng.integers(0, 26, people)]
    return data_of(lines, RoleSettings(0.0, 0.3))


def test_where_items_follow_one_another_kappa_is_high_and_lists_get_better() -> None:
    from services.training import validate
    from services.training.follow import follow
    from services.training.pretrain import new_model

    data = chain()
    model = new_model(replace(preset("tiny").model, content_dim=data.content.shape[1]), data, seed=0)
    people = data.users_of(Role.VALIDATION)
    before = validate.look(model, data, people, (1, 5))
    found = follow(model, data, (1, 5))
    assert model.heads.kappa.numpy()[:, 0].min() > 0.0
    assert found > before + 0.1
    # Lists by the model itself, which reads κ out of its queries, say the same but for its fast weights.
    assert validate.look(model, data, people, (1, 5)) == pytest.approx(found, abs=0.01)


def test_where_nobody_can_be_asked_kappa_stays() -> None:
    from services.training.follow import follow
    from services.training.pretrain import new_model

    data = data_of(["abc"] * 20, RoleSettings(0.0, 0.3))
    model = new_model(replace(preset("tiny").model, content_dim=data.content.shape[1]), data, seed=0)
    assert follow(model, data, (1, 5)) == 0.0
    assert not model.heads.kappa.numpy().any()
    assert model.transitions.items.shape == (3, model.config.successors)


def test_a_model_without_successors_stays_as_it_is() -> None:
    from services.training.follow import follow
    from services.training.pretrain import new_model

    data = assemble(synthetic.tables(), RoleSettings(0.2, 0.2))
    sizes = replace(preset("tiny").model, content_dim=synthetic.CONTENT_DIM, successors=0)
    model = new_model(sizes, data, seed=0)
    assert follow(model, data, (1, 5)) == 0.0
    assert model.transitions.items.shape == (data.num_items, 0)
