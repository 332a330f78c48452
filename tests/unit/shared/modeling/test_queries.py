"""Heads, losses and the whole model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.domain import Action, Calibration
from shared.errors import InvalidInput
from shared.modeling.config import ModelConfig, task_infos
from tests.unit.shared.modeling import twin
from tests.unit.shared.modeling.conftest import shaken

tf = pytest.importorskip("tensorflow")
CONFIG = twin.CONFIG


def queries(model: Any, inputs: dict[str, Any], adapt: float = 1.0) -> Any:
    return model.encode_adapt(inputs, tf.fill([len(inputs["mask"])], adapt)).queries.numpy()


def test_a_query_ends_in_the_selection_of_its_tasks_bias(model: Any) -> None:
    found = queries(model, twin.inputs_of([0, 3], 4))
    assert found.shape == (2, 3, CONFIG.output_dim)
    np.testing.assert_array_equal(found[:, :2, -3:], np.tile(np.eye(2, 3, dtype=np.float32), (2, 1, 1)))
    np.testing.assert_array_equal(found[:, 2, -3:-1], np.zeros((2, 2)))


def test_a_persons_own_slope_joins_the_selection_of_the_bias_of_ratings(model: Any) -> None:
    """Without ratings it is 1: everybody goes by what everybody thinks."""
    inputs = twin.inputs_of([0, 3], 4)
    inputs["actions"][1] = Action.RATING
    found = queries(model, inputs)
    assert found[0, 2, -1] == 1.0
    assert found[1, 2, -1] != 1.0
    assert queries(model, inputs, adapt=0.0)[1, 2, -1] == 1.0


def test_choices_start_by_asking_for_what_is_like_the_state_and_ratings_by_asking_for_nothing() -> None:
    from shared.modeling.heads import Heads

    heads = Heads(CONFIG)
    heads.build()
    heads.start_by_passing_on()
    states = np.random.default_rng(0).normal(size=(2, CONFIG.dim)).astype(np.float32)
    found = heads.sequence_queries(tf.constant(states), tf.constant([0.0, 3.0])).numpy()
    np.testing.assert_allclose(found, np.stack([states, states, 0.0 * states], axis=1), atol=1e-6)


def test_each_task_has_fast_weights_of_its_own_in_its_own_place(model: Any) -> None:
    """Adaptation on and off differ there and nowhere else: choices at φ, ratings at [u ; 1] and their
    bias."""
    inputs = twin.inputs_of([2, 4], 4)
    inputs["actions"][:, -1] = Action.RATING
    difference = queries(model, inputs) - queries(model, inputs, adapt=0.0)
    choices = slice(CONFIG.adapt_offset, CONFIG.adapt_offset + CONFIG.adapt_dim)
    ratings = [*range(choices.stop, choices.stop + CONFIG.rating_width), CONFIG.output_dim - 1]
    assert np.abs(difference[:, :2, choices]).min(axis=2).max() > 0.0
    assert np.abs(difference[:, 2, ratings]).min() > 0.0
    difference[:, :2, choices] = 0.0
    difference[:, 2, ratings] = 0.0
    assert not difference.any()


def test_the_latest_events_make_choices_and_all_of_them_ratings() -> None:
    """Of five events three are within reach: what they say of choices is what they say alone, and ratings
    before them count."""
    model = shaken(replace(CONFIG, reach=3))
    inputs = twin.inputs_of([5], 5)
    inputs["actions"][:] = Action.RATING
    latest = {name: x[:, 2:] if x.ndim > 1 and x.shape[1] == 5 else x for name, x in inputs.items()}
    whole, part = queries(model, inputs)[0], queries(model, latest)[0]
    np.testing.assert_allclose(whole[:2], part[:2], atol=1e-5)
    assert np.abs(whole[2] - part[2]).max() > 1e-3


def test_stars_of_hand_worked_ratings() -> None:
    """One item with u = 0, b = 0.5, mean 3: five stars are 1.5 above it. With λ = 2, level 1 and a slope that
    is next to nothing the person's level is 1.5 / (1 + 2) = 0.5: another item of b = 1 gets 3 + 1 + 0.5."""
    model = shaken(replace(CONFIG, adapter="ridge"))
    ridge = model.adapter.ratings
    for variable, value in zip((ridge.noise, ridge.level, ridge.slope), (2.0, 1.0, 1e-6), strict=True):
        variable.assign(value)
    model.heads.offsets.assign([0.0, 0.0, 3.0])
    model.heads.maps.kernel.assign(tf.zeros_like(model.heads.maps.kernel))
    inputs = twin.inputs_of([1], 4)
    inputs["actions"][0, -1], inputs["values"][0, -1] = Action.RATING, 5.0
    inputs["support_rows"][0, -1, CONFIG.adapt_dim :] = [0.0, 0.0, 0.0, 1.0, 0.5]
    row = np.zeros(CONFIG.output_dim, np.float32)
    row[[CONFIG.taste_dim + CONFIG.rating_dim, -1]] = 1.0
    assert 3.0 + row @ queries(model, inputs)[0, 2] == pytest.approx(4.5, abs=1e-5)


def test_adaptation_off_has_no_uncertainty(model: Any) -> None:
    inputs = twin.inputs_of([3], 4)
    found = model.encode_adapt(inputs, tf.zeros([1]))
    assert not found.factor.numpy().any()
    assert not found.scale.numpy().any()


def test_kappa_stands_in_its_place_for_choices_alone_and_between_knots_of_its_number_of_shots() -> None:
    """κ of 0.5 at one event, 0.9 at two, 0.3 from three on; at none, and with adaptation off, it is 0."""
    model = shaken()
    kappa = np.full(model.heads.kappa.shape, 0.3, np.float32)
    kappa[:2] = [[0.5, 0.6], [0.9, 1.0]]
    model.heads.kappa.assign(kappa)
    inputs = twin.inputs_of([0, 1, 2, 4], 4)
    place = CONFIG.transition_offset
    wanted = [[0.0, 0.0, 0.0], [0.5, 0.6, 0.0], [0.9, 1.0, 0.0], [0.3, 0.3, 0.0]]
    np.testing.assert_allclose(queries(model, inputs)[..., place], wanted, atol=1e-6)
    assert not queries(model, inputs, adapt=0.0)[..., place].any()


def test_omega_stands_in_its_place_for_choices_alone_from_no_shots_on_and_whether_adapted_or_not() -> None:
    """ω of 0.8 of somebody unknown, 0.4 at one event, 0.1 from two on; it says the same to everybody, so
    adaptation off has it too."""
    model = shaken()
    omega = np.full(model.heads.omega.shape, 0.1, np.float32)
    omega[:2] = [[0.8, 0.9], [0.4, 0.5]]
    model.heads.omega.assign(omega)
    inputs = twin.inputs_of([0, 1, 2, 4], 4)
    place = CONFIG.trend_offset
    wanted = [[0.8, 0.9, 0.0], [0.4, 0.5, 0.0], [0.1, 0.1, 0.0], [0.1, 0.1, 0.0]]
    np.testing.assert_allclose(queries(model, inputs)[..., place], wanted, atol=1e-6)
    np.testing.assert_allclose(queries(model, inputs, adapt=0.0)[..., place], wanted, atol=1e-6)


def test_a_model_without_trends_has_no_place_for_them() -> None:
    config = replace(CONFIG, trends=False)
    assert config.output_dim == CONFIG.output_dim - 1
    assert queries(shaken(config), twin.inputs_of([0, 3], 4)).shape == (2, 3, config.output_dim)


def test_likes_are_also_asked_for_by_a_share_of_stars() -> None:
    """σ of 0.5 at one event and 0.2 from two on: so much of what a rating adds, at [u ; 1] and at the bias of
    ratings; none of it with adaptation off or without ratings, and none for what comes next."""
    model = shaken()
    inputs = twin.inputs_of([1, 4, 4], 4)
    inputs["actions"][:2, -1], inputs["actions"][2] = Action.RATING, Action.VIEW
    before = queries(model, inputs)
    sigma = np.full(model.heads.sigma.shape, 0.2, np.float32)
    sigma[0] = 0.5
    model.heads.sigma.assign(sigma)
    found = queries(model, inputs) - before
    stars = (before - queries(model, inputs, adapt=0.0))[:, 2]
    assert np.abs(stars[:2, CONFIG.taste_dim : CONFIG.taste_dim + CONFIG.rating_width]).max() > 1e-3
    np.testing.assert_allclose(found[:, 1], np.array([[0.5], [0.2], [0.2]]) * stars, atol=1e-6)
    assert not found[2].any()
    assert not found[:, [0, 2]].any()
    off = queries(model, inputs, adapt=0.0)
    np.testing.assert_array_equal(off, queries(shaken(), inputs, adapt=0.0))


def test_a_trail_counts_choices_the_latest_most() -> None:
    """A rating, a dislike, a like, all within reach: weights e^(−0.8), 0, 1 over their sum. A rating counts
    whatever its stars; the trail is as long as the reach, the newest last."""
    model = shaken()
    inputs = twin.inputs_of([3, 0], 4)
    inputs["actions"][0, 1:] = [Action.RATING, Action.DISLIKE, Action.LIKE]
    inputs["labels"][0, 1:] = [-0.5, -1.0, 1.0]
    trail = model.encode_adapt(inputs, tf.ones([2])).trail.numpy()
    assert trail.shape == (2, CONFIG.trail)
    older = np.exp(-0.8)
    np.testing.assert_allclose(trail[0, -3:], np.array([older, 0.0, 1.0]) / (1.0 + older), rtol=1e-5)
    assert not trail[0, :-3].any()
    assert not trail[1].any()
    assert not model.encode_adapt(inputs, tf.zeros([2])).trail.numpy().any()


def test_one_who_has_done_nothing_gets_queries(model: Any) -> None:
    found = queries(model, twin.inputs_of([0], 4))
    assert np.isfinite(found).all()
    assert np.abs(found[..., : CONFIG.dim]).max() > 0.0


def test_scales_are_interpolated_between_numbers_of_shots(model: Any) -> None:
    """At k = 0 γ is that of k = 1."""
    gamma = np.exp(model.heads.log_gamma.numpy())
    found = model.heads.scales(tf.constant([0.0, 1.0, 2.0])).numpy()
    np.testing.assert_allclose(found, gamma[[0, 0, 1]], rtol=1e-5)


def test_the_fast_weights_alone_lower_what_resembles_a_dislike(model: Any) -> None:
    """Under ridge with φ = ψ, an item with the disliked item's row loses, and gains by a like."""
    inputs = twin.inputs_of([1], 4)
    row = inputs["support_rows"][0, -1, : CONFIG.adapt_dim]
    fast = slice(CONFIG.adapt_offset, CONFIG.adapt_offset + CONFIG.adapt_dim)
    scores = []
    for action, label in ((Action.DISLIKE, -1.0), (Action.LIKE, 1.0)):
        inputs["actions"][0, -1], inputs["labels"][0, -1] = action, label
        scores.append(queries(model, inputs)[0, :2, fast] @ row)
    assert (scores[0] < 0).all()
    assert (scores[1] > 0).all()


def test_arrays_bring_a_model_back(model: Any) -> None:
    other = shaken(seed=9)
    inputs = twin.inputs_of([3], 4)
    assert np.abs(queries(other, inputs) - queries(model, inputs)).max() > 0.01
    other.load_arrays(model.state_arrays())
    np.testing.assert_array_equal(queries(other, inputs), queries(model, inputs))
    np.testing.assert_array_equal(other.item_rows().output.numpy(), model.item_rows().output.numpy())


def test_the_same_seed_makes_the_same_model() -> None:
    one, other = shaken().state_arrays(), shaken().state_arrays()
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_one_adapter_can_start_from_anothers_arrays(model: Any) -> None:
    off = shaken(replace(CONFIG, adapter="none"), seed=5)
    off.load_arrays(model.state_arrays())
    inputs = twin.inputs_of([3], 4)
    np.testing.assert_array_equal(queries(off, inputs), queries(model, inputs, adapt=0.0))


def test_softmax_loss_by_hand() -> None:
    """Two classes with logits 0 and log 3: −log(3/4) for the second; the second position weighs nothing."""
    from shared.modeling.losses import softmax_loss

    logits = tf.math.log([[1.0, 3.0], [1.0, 1.0]])
    found = softmax_loss(logits, tf.constant([1, 0]), tf.constant([1.0, 0.0]))
    assert abs(float(found) - np.log(4 / 3)) < 1e-6


def test_set_loss_by_hand() -> None:
    """p = (1/4, 3/4), targets both: −(log 1/4 + log 3/4) / 2; no targets at all cost nothing."""
    from shared.modeling.losses import set_loss

    logits = tf.math.log([[1.0, 3.0]])
    both = set_loss(logits, tf.constant([[0, 1]]), tf.ones([1, 2]))
    assert abs(float(both) + (np.log(1 / 4) + np.log(3 / 4)) / 2) < 1e-6
    assert float(set_loss(logits, tf.constant([[0, 1]]), tf.zeros([1, 2]))) == 0.0


def test_excluded_items_leave_the_softmax() -> None:
    """Of three equal items one is out: each of the others has probability 1/2."""
    from shared.modeling.losses import exclude, set_loss

    logits = exclude(tf.zeros([1, 3]), tf.constant([[1, 0, 0]], tf.uint8))
    assert abs(float(set_loss(logits, tf.constant([[1]]), tf.ones([1, 1]))) - np.log(2.0)) < 1e-6


def test_the_logq_correction_makes_a_sample_speak_for_all() -> None:
    """100 equal items, one wanted and 9 sampled of 99: corrected, log-sum-exp is that of all 100 again."""
    from shared.modeling.losses import correct

    log_q = np.full(10, np.log(9 / 99), np.float32)
    log_q[0] = 0.0
    total = tf.reduce_logsumexp(correct(tf.zeros([1, 10]), tf.constant(log_q)))
    assert abs(float(total) - np.log(100.0)) < 1e-5


def test_a_config_survives_the_manifest() -> None:
    import json

    assert ModelConfig.from_dict(json.loads(json.dumps(CONFIG.as_dict()))) == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide dim 8, got 3"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"buckets": (8, 4)}, "buckets must be ascending"),
        ({"reach": 0}, "reach must be at least 1, got 0"),
        ({"rating_dim": -1}, "rating_dim must be at least 0, got -1"),
        ({"uncertainty_rank": 7}, "uncertainty_rank must be 1..6, got 7"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(CONFIG, **change)


def test_tasks_for_the_manifest() -> None:
    knots = (Calibration(0, 1.0, -6.5),)
    tasks = task_infos({"like": knots}, {"next": 0.0, "like": -1.0, "rating": 3.6})
    assert [(t.name, t.calibration, t.offset) for t in tasks] == [
        ("next", (), 0.0),
        ("like", knots, -1.0),
        ("rating", (), 3.6),
    ]
    assert [(t.default_weight, t.bounds) for t in tasks] == [(0.5, (0, 1)), (0.5, (0, 1)), (0.0, (1, 5))]


def test_a_model_without_ratings_has_two_tasks() -> None:
    config = replace(CONFIG, rating_dim=0)
    model = shaken(config)
    assert config.tasks == ("next", "like")
    assert (config.support_dim, config.output_dim) == (6, 8 + 6 + 1 + 1 + 2)
    inputs = twin.inputs_of([0, 3], 4)
    inputs["support_rows"] = inputs["support_rows"][..., : config.support_dim]
    assert queries(model, inputs).shape == (2, 2, config.output_dim)
    assert not hasattr(model.heads, "sigma")
    assert model.item_rows().output.shape == (12, config.output_dim)
    assert [t.name for t in task_infos({}, model.offsets())] == ["next", "like"]
