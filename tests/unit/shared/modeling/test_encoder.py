"""The encoder against its plain twin, and what must not change it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.shared.modeling import twin

tf = pytest.importorskip("tensorflow")


def states(model: Any, inputs: dict[str, Any]) -> Any:
    """[B, L + 1, dim] float32."""
    from shared.modeling.random import SILENCE

    return model.encoder(inputs, noise=SILENCE).numpy()


def last(model: Any, inputs: dict[str, Any]) -> Any:
    from shared.modeling.encoder import last_state

    return last_state(tf.constant(states(model, inputs)), tf.constant(inputs["mask"])).numpy()


@pytest.mark.parametrize("length", [6, 8])
def test_it_computes_what_the_plain_twin_computes(model: Any, length: int) -> None:
    inputs = twin.inputs_of([0, 1, 3, 6], length)
    weights = {v.path: v.numpy() for v in model.encoder.variables}
    expected = [twin.last_state(weights, inputs, person) for person in range(4)]
    np.testing.assert_allclose(last(model, inputs), expected, atol=2e-5)


def test_padding_changes_nothing(model: Any) -> None:
    short, long = (last(model, twin.inputs_of([0, 1, 4], length)) for length in (4, 8))
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_later_events_do_not_change_earlier_states(model: Any) -> None:
    inputs = twin.inputs_of([6, 6], 6)
    before = states(model, inputs)
    for name in ("input_rows", "values", "labels"):
        inputs[name][:, 4:] += 1.0
    inputs["actions"][:, 4:] = 5
    after = states(model, inputs)
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-6)
    assert np.abs(after[:, 5:] - before[:, 5:]).max() > 0.01


def test_one_who_has_done_nothing_still_has_a_state_from_their_profile(model: Any) -> None:
    inputs = twin.inputs_of([0, 0], 4)
    found = last(model, inputs)
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_what_stands_in_padding_is_never_read(model: Any) -> None:
    inputs = twin.inputs_of([2], 6)
    before = last(model, inputs)
    for name in ("input_rows", "values", "labels", "ages_s"):
        inputs[name][:, :4] = 77.0
    np.testing.assert_allclose(last(model, inputs), before, atol=1e-6)


def test_dropout_is_a_function_of_its_seed(model: Any) -> None:
    from shared.modeling.random import Noise

    inputs = twin.inputs_of([3], 4)
    one, same, other = (
        model.encoder(inputs, noise=Noise(tf.constant([0, step]))).numpy() for step in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_dropout_keeps_the_mean() -> None:
    from shared.modeling.random import Noise

    dropped = Noise(tf.constant([3, 4])).dropout(tf.ones([400, 401]), 0.4).numpy()
    assert abs((dropped == 0).mean() - 0.4) < 0.01
    assert abs(dropped.mean() - 1.0) < 0.01


@pytest.mark.parametrize(("count", "expected"), [(0.0, [1, 0, 0]), (1.0, [0, 1, 0]), (50.0, [0, 0, 1])])
def test_knots_are_hit_exactly(count: float, expected: list[int]) -> None:
    from shared.modeling.encoder import hat_features

    np.testing.assert_allclose(
        hat_features(tf.constant([count]), (0.0, 1.0, 3.0)).numpy()[0], expected, atol=1e-6
    )


def test_between_knots_the_weights_sum_to_one() -> None:
    """log1p(1.8284) lies half-way between log1p(1) and log1p(3)."""
    from shared.modeling.encoder import hat_features

    half = hat_features(tf.constant([2.0**1.5 - 1.0]), (0.0, 1.0, 3.0)).numpy()[0]
    np.testing.assert_allclose(half, [0.0, 0.5, 0.5], atol=1e-6)


def test_near_distances_have_their_own_bucket_and_far_ones_share() -> None:
    from shared.modeling.encoder import distance_buckets

    buckets = distance_buckets()
    assert buckets[:12].tolist() == list(range(12))
    assert (np.diff(buckets) >= 0).all()
    assert buckets[12] == 12
    assert buckets[-1] == 23


def test_it_starts_by_adding_the_mean_of_what_came_so_far() -> None:
    """Three places of rows x; queries and keys of zeros see all earlier places alike."""
    from shared.modeling.encoder import Attention
    from shared.modeling.random import SILENCE

    attention = Attention(twin.CONFIG, "attention")
    attention.build()
    attention.start_by_averaging()
    dim = twin.CONFIG.dim
    kernel = attention.qkv.kernel.numpy()
    kernel[:, : 2 * dim] = 0.0
    attention.qkv.kernel.assign(kernel)
    x = np.random.default_rng(0).normal(size=(1, 3, dim)).astype(np.float32)
    hidden = -1e9 * (1.0 - np.tril(np.ones((1, 1, 3, 3), np.float32)))
    found = attention(tf.constant(x), tf.zeros([3, 3], tf.int32), tf.constant(hidden), noise=SILENCE).numpy()
    for place in range(3):
        np.testing.assert_allclose(found[0, place], x[0, : place + 1].mean(axis=0), atol=1e-5)
