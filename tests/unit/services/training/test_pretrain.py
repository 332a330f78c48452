"""Pre-training: the model starts from the data, learns, and goes on exactly where it stopped."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.training import windows
from services.training.adapt import fit_adapter
from services.training.assemble import assemble
from services.training.data import TrainingData, offsets_of
from services.training.loop import Hooks, Rates, TrainState
from services.training.metatrain import meta_train
from services.training.presets import PRESETS, preset
from services.training.pretrain import new_model, pretrain, starting_rows
from services.training.pretrain_batch import draw_windows, window_batch
from services.training.roles import RoleSettings
from shared.errors import InvalidInput
from shared.holdout import Role
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")
TINY = preset("tiny")
CONFIG = replace(TINY.pretrain, steps=12)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=60, events=34, items=80), RoleSettings(0.0, 0.2))


def model_of(data: TrainingData, seed: int = 0) -> Any:
    return new_model(replace(TINY.model, content_dim=data.content.shape[1]), data, seed=seed)


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.state_arrays().values(), other.state_arrays().values(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_starting_rows_do_not_know_validation_people(data: TrainingData) -> None:
    trained = data.select_users(data.roles == Role.TRAIN)
    config = replace(TINY.model, content_dim=data.content.shape[1])
    for one, other in zip(starting_rows(config, data), starting_rows(config, trained), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_it_learns_and_says_how_far_it_is(data: TrainingData) -> None:
    model, told = model_of(data), []
    hooks = Hooks(
        on_step=lambda step, total, metrics: told.append((step, total, metrics["loss_next"])), report_every=5
    )
    config = replace(CONFIG, steps=30, rates=Rates(rate=1e-2, warmup=5))
    final = pretrain(model, data, config, seed=0, hooks=hooks)
    assert [(step, total) for step, total, _ in told] == [(n, 30) for n in (5, 10, 15, 20, 25, 30)]
    assert final["loss_next"] == told[-1][2] < told[0][2]


def test_a_resumed_run_is_the_run_that_never_stopped(data: TrainingData, tmp_path: Path) -> None:
    whole, kept = model_of(data), []
    pretrain(whole, data, CONFIG, seed=3, hooks=Hooks(on_checkpoint=kept.append, checkpoint_every=7))
    assert [state.step for state in kept] == [7]
    kept[0].save(tmp_path / "state.npz")
    resumed = model_of(data, seed=9)
    pretrain(resumed, data, CONFIG, seed=3, hooks=Hooks(resume=TrainState.load(tmp_path / "state.npz")))
    assert same(whole, resumed)


@pytest.mark.slow  # that equal seeds repeat, resumed runs show too
def test_the_seed_decides(data: TrainingData) -> None:
    models = [model_of(data) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        pretrain(model, data, replace(CONFIG, steps=3), seed=seed)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_a_large_catalogue_trains_on_a_sample(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "FULL_SOFTMAX_ITEMS", 10)
    final = pretrain(model_of(data), data, replace(CONFIG, steps=2, pool_items=75), seed=0)
    assert np.isfinite(final["loss"])


def test_presets_are_known_by_name() -> None:
    assert set(PRESETS) == {"tiny", "small", "base", "large"}
    with pytest.raises(InvalidInput, match="preset must be one of tiny, small, base, large, got 'huge'"):
        preset("huge")


def test_no_model_reads_longer_histories_than_it_was_meta_trained_on() -> None:
    small = PRESETS["small"]
    longer = replace(small.model, reach=64)
    with pytest.raises(InvalidInput, match="reach must be at most the shots of the longest episode, 20"):
        replace(small, model=longer)


def test_windows_of_like_length_make_a_batch_and_every_step_gets_its_own(data: TrainingData) -> None:
    config = replace(CONFIG, window=32, lengths=(8, 16), batch_windows=6)
    uneven = data.select_users(np.arange(data.num_users) < 40)
    uneven = replace_histories(uneven, np.random.default_rng(0).integers(4, 34, uneven.num_users))
    users = uneven.users_of(Role.TRAIN)
    steps = [draw_windows(uneven, users, config, 5, step)[0] for step in range(8)]
    spans = sorted((int(c.counts.min()), int(c.counts.max())) for c in steps)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    again = draw_windows(uneven, users, config, 5, 3)[0]
    np.testing.assert_array_equal(again.users, steps[3].users)
    widths = {window_batch(uneven, c, config, np.random.default_rng(0), 1)["mask"].shape[1] for c in steps}
    assert widths == {8, 16, 32}


@pytest.mark.slow
def test_windows_of_several_lengths_train_and_resume(data: TrainingData, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=6, window=32, lengths=(8, 16), batch_windows=4, average=0.9)
    uneven = replace_histories(data, np.random.default_rng(0).integers(4, 34, data.num_users))
    whole, kept = model_of(uneven), []
    pretrain(whole, uneven, config, seed=3, hooks=Hooks(on_checkpoint=kept.append, checkpoint_every=5))
    kept[0].save(tmp_path / "state.npz")
    resumed = model_of(uneven, seed=9)
    pretrain(resumed, uneven, config, seed=3, hooks=Hooks(resume=TrainState.load(tmp_path / "state.npz")))
    assert same(whole, resumed)


@pytest.mark.parametrize("name", ["base", "large"])
def test_a_sequence_model_learns_the_very_next_event_of_long_histories(name: str) -> None:
    sizes, config = PRESETS[name].sequence_model()
    assert (config.horizon, config.like_weight, config.action_share) == (1, 0.0, 0.0)
    assert sizes.buckets == (64, 128, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_trains(name: str, data: TrainingData) -> None:
    """Two steps of each stage with few people a step, the sizes of the model as they are."""
    chosen = PRESETS[name]
    for sizes, config in ((chosen.model, chosen.pretrain), chosen.sequence_model()):
        model = new_model(replace(sizes, content_dim=data.content.shape[1]), data, seed=0)
        few = replace(config, steps=2, batch_windows=4)
        assert np.isfinite(pretrain(model, data, few, seed=0)["loss"])
    model = new_model(replace(chosen.model, content_dim=data.content.shape[1]), data, seed=0)
    meta = replace(chosen.meta, steps=2, batch_episodes=4, scale_episodes=4, validate_every=2)
    assert np.isfinite(meta_train(model, data, meta, seed=0)["loss"])
    adapt = replace(chosen.adapt, steps=2, batch_episodes=4, own_episodes=4, validate_every=2)
    assert np.isfinite(fit_adapter(model, data, adapt, seed=0)["loss"])


def replace_histories(data: TrainingData, lengths: Any) -> TrainingData:
    """The same people with their first so many events."""
    kept = np.concatenate([np.arange(n) < wanted for n, wanted in zip(data.lengths, lengths, strict=True)])
    columns = {name: getattr(data, name)[kept] for name in ("items", "actions", "values", "time_ms")}
    return replace(data, offsets=offsets_of(np.minimum(data.lengths, lengths)), **columns)
