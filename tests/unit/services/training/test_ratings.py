"""The task `rating` beside the body: rows at the start, numbers at the end, and catalogues that nobody
rates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.presets import preset
from services.training.pretrain import new_model
from services.training.ratings import fit_ratings, has_ratings, share_stars, start_ratings
from services.training.roles import RoleSettings
from shared.domain import Action
from shared.holdout import Role
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")
TINY = preset("tiny")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Ratings of one's own kind are 4 or 5, of others 2: people differ by taste alone."""
    return assemble(synthetic.tables(people=60, events=34, items=80), RoleSettings(0.0, 0.2))


@pytest.fixture(scope="module")
def sold(data: TrainingData) -> TrainingData:
    """The same world, where people buy instead of rating."""
    bought = np.full_like(data.actions, int(Action.PURCHASE))
    return replace(data, actions=bought, values=np.zeros_like(data.values))


def model_of(data: TrainingData, **changes: Any) -> Any:
    config = replace(TINY.model, content_dim=data.content.shape[1], **changes)
    return new_model(config, data, seed=0)


def test_the_offset_is_the_mean_of_training_peoples_ratings(data: TrainingData) -> None:
    mine = data.roles[data.owners] == Role.TRAIN
    assert model_of(data).offsets()["rating"] == pytest.approx(data.values[mine].mean(), abs=1e-5)


def test_rows_do_not_know_validation_people(data: TrainingData) -> None:
    trained = data.select_users(data.roles == Role.TRAIN)
    for one, other in zip(model_of(data).item_rows(), model_of(trained).item_rows(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4)


def test_the_latest_of_several_ratings_of_an_item_counts(data: TrainingData) -> None:
    """Ratings that are taken back at once leave no trace."""
    twice = np.repeat(np.arange(data.num_events), 2)
    values = np.where(np.arange(len(twice)) % 2 == 0, 6.0 - data.values[twice], data.values[twice])
    columns = {name: getattr(data, name)[twice] for name in ("items", "actions", "time_ms")}
    again = replace(data, offsets=2 * data.offsets, values=values.astype(np.float32), **columns)
    one, other = model_of(data), model_of(data)
    start_ratings(other, again)
    np.testing.assert_allclose(one.tables["r"].numpy(), other.tables["r"].numpy(), atol=1e-5)


def test_a_rating_moves_what_is_foretold_of_its_kind(data: TrainingData) -> None:
    """One who gives an item 5 stars is foretold more for items of its kind than for others; by 1 star
    less."""
    model = model_of(data)
    rows = model.item_rows()
    kinds = np.arange(data.num_items) % 4
    u = rows.support[:, model.config.adapt_dim :].numpy()
    for stars, sign in ((5.0, 1.0), (1.0, -1.0)):
        given = _ratings(u[:1], stars - model.offsets()["rating"] - u[0, -1])
        delta = model.adapter.star_weights(given).numpy()[0]
        change = u @ delta
        assert sign * (change[kinds == 0].mean() - change[kinds != 0].mean()) > 0.0


def _ratings(rows: Any, stars: float) -> Any:
    import tensorflow as tf

    from shared.adapters import Ratings

    return Ratings(tf.constant(rows[None]), tf.constant([[stars]], tf.float32), tf.ones([1, 1]))


def test_fitting_makes_the_error_of_validation_people_less_and_touches_nothing_else(
    data: TrainingData,
) -> None:
    model = model_of(data)
    noise = model.adapter.ratings.noise
    noise.assign(100.0)  # as if ratings said next to nothing
    before = model.state_arrays()
    found = fit_ratings(model, data, seed=0)
    assert float(noise) < 50.0
    assert 0.0 < found["rating_rmse"] < data.values.std()
    after = model.state_arrays()
    moved = {name.rsplit("/", 1)[-1] for name in before if not np.array_equal(before[name], after[name])}
    assert moved <= {"noise", "level", "slope", "log_tau"}
    path = model.heads.log_tau.path
    np.testing.assert_array_equal(before[path][:, :2], after[path][:, :2])
    assert fit_ratings(model_of(data), data, seed=0).keys() == {"rating_rmse"}


def test_without_fast_weights_or_ratings_there_is_nothing_to_fit(
    data: TrainingData, sold: TrainingData
) -> None:
    assert fit_ratings(model_of(data, adapter="none"), data, seed=0) == {}
    assert fit_ratings(model_of(sold, rating_dim=0), sold, seed=0) == {}
    assert fit_ratings(model_of(sold), sold, seed=0) == {}


def test_a_catalogue_that_nobody_rates_is_told_by_its_training_people(
    data: TrainingData, sold: TrainingData
) -> None:
    assert has_ratings(data)
    assert not has_ratings(sold)
    judged = np.where(data.roles[data.owners] == Role.TRAIN, int(Action.LIKE), data.actions).astype(np.int32)
    assert not has_ratings(replace(data, actions=judged))


def test_without_any_rating_every_item_is_in_the_middle_of_the_scale(sold: TrainingData) -> None:
    model = model_of(sold)
    assert model.offsets()["rating"] == 3.0
    assert not model.tables["r"].numpy().any()


def test_a_share_of_stars_makes_lists_of_likes_better_and_touches_nothing_else(data: TrainingData) -> None:
    """Here people like their own kind and nothing else, which a body without training does not know."""
    from services.training import validate
    from services.training.scores import ScoreParts

    model = model_of(data)
    people, shots = data.users_of(Role.VALIDATION), (1, 5, 10)

    def likes(sigma: float) -> float:
        tables = validate._tables(model, data, people, shots, (sigma,), ScoreParts.by_sigma)
        return float(np.nanmean(tables[:, 1]))

    before, nothing = model.state_arrays(), likes(0.0)
    share_stars(model, data, shots)
    after = model.state_arrays()
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert moved == [model.heads.sigma.path]
    chosen = model.heads.sigma.numpy()
    assert chosen.min() > 0.0
    assert likes(float(chosen.mean())) > nothing + 0.01


def test_without_fast_weights_ratings_or_people_to_ask_no_share_is_chosen(
    data: TrainingData, sold: TrainingData
) -> None:
    off, unrated, alone = model_of(data, adapter="none"), model_of(sold, rating_dim=0), model_of(data)
    share_stars(off, data, (1, 5))
    share_stars(unrated, sold, (1, 5))
    share_stars(alone, data.select_users(data.roles == Role.TRAIN), (1, 5))
    assert not off.heads.sigma.numpy().any()
    assert not alone.heads.sigma.numpy().any()


def test_the_parts_of_scores_add_up_to_what_queries_say(data: TrainingData) -> None:
    from services.training.episodes import protocol_episodes
    from services.training.scores import score_parts

    model = model_of(data)
    cuts = protocol_episodes(data, data.users_of(Role.VALIDATION), 5, (20,), 10)
    unshared = score_parts(model, data, cuts)
    model.heads.sigma.assign(np.linspace(0.3, 1.2, len(model.heads.sigma.numpy())))
    parts = score_parts(model, data, cuts)
    np.testing.assert_allclose(parts.sigma[:, [0, 2]], 0.0)
    assert parts.sigma[:, 1].min() > 0.3
    without, stars = parts.by_sigma()
    assert np.abs(stars).max() > 0.01
    for one, other in zip((without, stars), unshared.by_sigma(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    whole = without + parts.sigma * stars
    kept, following = parts.by_kappa()
    np.testing.assert_allclose(whole, kept + parts.kappa * following, atol=1e-4)
    for rest, more in (parts.by_gamma(), parts.by_tau()):
        assert np.abs(more).max() > 0.01
        np.testing.assert_allclose(whole, rest + more, atol=1e-4)
