"""An adapter on a finished body: it learns, the body stays, the best weights are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.training import windows
from services.training.adapt import fit_adapter
from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.episodes import EpisodeShape
from services.training.loop import Hooks, TrainState
from services.training.presets import preset
from services.training.pretrain import new_model
from services.training.roles import RoleSettings
from services.training.validate import GAMMA_FACTORS, choose_gamma, look
from shared.holdout import Role
from shared.modeling.heads import GAMMA_AT_START
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")
TINY = preset("tiny")
CONFIG = replace(TINY.adapt, validation_shots=(1, 5))
BODY = ("table_e", "table_v", "table_b", "item_tower/", "encoder/", "maps", "log_tau")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=60, events=34, items=80), RoleSettings(0.0, 0.2))


def model_of(data: TrainingData, adapter: str = "ridge") -> Any:
    config = replace(TINY.model, content_dim=data.content.shape[1], adapter=adapter)
    return new_model(config, data, seed=0)


@pytest.fixture(scope="module")
def checkpoints() -> list[TrainState]:
    """What `fitted` kept on its way."""
    return []


@pytest.fixture(scope="module")
def fitted(data: TrainingData, checkpoints: list[TrainState]) -> tuple[dict[str, Any], Any, dict[str, float]]:
    """Arrays before, the model after, what fit_adapter returned."""
    model = model_of(data)
    before = model.state_arrays()
    hooks = Hooks(on_checkpoint=checkpoints.append, checkpoint_every=CONFIG.steps // 2 + 2)
    return before, model, fit_adapter(model, data, CONFIG, seed=0, hooks=hooks)


def test_the_body_stays_as_it_is(fitted: tuple[dict[str, Any], Any, dict[str, float]]) -> None:
    before, model, _ = fitted
    after = model.state_arrays()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"warmstart/table_psi", "warmstart/table_phi"} <= moved
    assert not [name for name in moved if any(part in name for part in BODY)]


def test_adaptation_off_is_the_body(
    fitted: tuple[dict[str, Any], Any, dict[str, float]], data: TrainingData
) -> None:
    before, model, _ = fitted
    body = model_of(data, "none")
    body.load_arrays(before)
    judges = data.users_of(Role.VALIDATION)
    assert look(model, data, judges, (1, 5)) == look(body, data, judges, (1, 5)) > 0.0


def test_what_is_kept_is_what_was_validated(
    fitted: tuple[dict[str, Any], Any, dict[str, float]], data: TrainingData
) -> None:
    _, model, final = fitted
    assert np.isfinite(final["loss"])
    assert np.isfinite(final["own_loss"])
    seen = choose_gamma(model, data, data.users_of(Role.VALIDATION), (1, 5))
    # γ is as validation people wanted it: they want it no otherwise now, but for the ends of the grid.
    assert final["validation_ndcg"] == pytest.approx(seen.ndcg, abs=0.02)
    gamma = np.exp(model.heads.log_gamma.numpy()) / GAMMA_AT_START
    assert all(any(np.isclose(g, factor) for factor in GAMMA_FACTORS) for g in gamma.ravel())


@pytest.mark.slow  # that equal seeds repeat, resumed runs show too
def test_the_same_seed_gives_the_same_adapter(
    fitted: tuple[dict[str, Any], Any, dict[str, float]], data: TrainingData
) -> None:
    _, model, final = fitted
    again = model_of(data)
    assert fit_adapter(again, data, CONFIG, seed=0) == final
    for name, array in again.state_arrays().items():
        np.testing.assert_array_equal(array, model.state_arrays()[name], err_msg=name)


def test_a_resumed_adapter_is_the_one_that_never_stopped(
    fitted: tuple[dict[str, Any], Any, dict[str, float]], checkpoints: list[TrainState], data: TrainingData
) -> None:
    """Stopped after the first look at validation people: what was best then is not forgotten."""
    _, model, final = fitted
    (kept,) = checkpoints
    assert CONFIG.validate_every < kept.step < CONFIG.steps
    resumed = model_of(data)
    assert fit_adapter(resumed, data, CONFIG, seed=0, hooks=Hooks(resume=kept)) == final
    for name, array in resumed.state_arrays().items():
        np.testing.assert_array_equal(array, model.state_arrays()[name], err_msg=name)


def test_without_fast_weights_there_is_nothing_to_learn(data: TrainingData) -> None:
    model = model_of(data, "none")
    before = model.state_arrays()
    assert fit_adapter(model, data, CONFIG, seed=0) == {}
    assert all(np.array_equal(before[name], array) for name, array in model.state_arrays().items())


@pytest.mark.slow  # test_pretrain keeps the short form of it
def test_a_large_catalogue_is_adapted_on_a_sample(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "FULL_SOFTMAX_ITEMS", 10)
    config = replace(CONFIG, steps=2, shape=EpisodeShape(pool_items=75))
    assert np.isfinite(fit_adapter(model_of(data), data, config, seed=0)["loss"])
