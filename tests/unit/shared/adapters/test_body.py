"""Adapters of the whole body against hand-worked numbers.

θ is one number. Support: L_s = ½·2·(θ − 3)², so ∇L_s = 2(θ − 3). Query: L_q = ½(θ − 1)², ∇L_q = θ − 1.
From θ = 1 with η = 0.1 one step leads to θ′ = 1 − 0.1·2·(1 − 3) = 1.4, a second to 1.4 + 0.32 = 1.72.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.adapters import make_body_adapter
from shared.adapters.body import Episode, Pace, descend
from shared.errors import InvalidInput

tf = pytest.importorskip("tensorflow")

START = np.array([1.0], np.float32)
EPISODE = Episode(
    support=lambda weights: tf.reduce_sum((weights - 3.0) ** 2),
    query=lambda weights: 0.5 * tf.reduce_sum((weights - 1.0) ** 2),
)


def outer(name: str, **settings: Any) -> tuple[float, float]:
    """Gradients of the outer loss to θ and to η."""
    adapter = make_body_adapter(name, **settings)
    weights, pace = tf.constant(START), adapter.pace(1)
    rates = tf.constant(pace.rates)
    with tf.GradientTape() as tape:
        tape.watch([weights, rates])
        loss = adapter.outer_loss(EPISODE, weights, pace._replace(rates=rates))
    found = tape.gradient(loss, [weights, rates], unconnected_gradients="zero")
    return float(found[0].numpy()[0]), float(np.sum(found[1].numpy()))


@pytest.mark.parametrize(("steps", "expected"), [(1, 1.4), (2, 1.72)])
@pytest.mark.parametrize(
    ("name", "more"), [("finetune", {}), ("reptile", {}), ("gradient", {"scope": "body"})]
)
def test_inner_steps_go_down_the_support(
    name: str, more: dict[str, Any], steps: int, expected: float
) -> None:
    adapter = make_body_adapter(name, steps=steps, rate=0.1, **more)
    found = adapter.adapt(EPISODE.support, tf.constant(START), adapter.pace(1))
    np.testing.assert_allclose(found.numpy(), [expected], atol=1e-6)


def test_each_weight_may_have_its_rate() -> None:
    """θ = (1, 1), η = (0.1, 0): the second stays."""
    pace = Pace(np.int32(2), np.array([0.1, 0.0], np.float32))
    found = descend([EPISODE.support], tf.ones([2]), pace)
    np.testing.assert_allclose(found.numpy(), [1.72, 1.0], atol=1e-6)


def test_no_loss_no_change() -> None:
    found = descend([lambda weights: tf.constant(0.0)], tf.constant(START), Pace(3, 0.1))
    np.testing.assert_array_equal(found.numpy(), START)


def test_maml_differentiates_through_the_step() -> None:
    """∂L_q(θ′)/∂θ = (θ′ − 1)·∂θ′/∂θ = 0.4·(1 − 0.1·2) = 0.32; to η: 0.4·(−2(θ − 3)) = 1.6."""
    found = outer("gradient", scope="body", steps=1, rate=0.1)
    assert found == pytest.approx((0.32, 1.6), abs=1e-6)


def test_first_order_leaves_the_second_derivative_out() -> None:
    """(θ′ − 1) = 0.4; the rates' gradient has none in it after one step."""
    found = outer("gradient", scope="body", steps=1, rate=0.1, first_order=True)
    assert found == pytest.approx((0.4, 1.6), abs=1e-6)


def test_reptile_walks_to_where_support_and_query_lead() -> None:
    """A step on the support to 1.4, one on the query to 1.4 − 0.1·0.4 = 1.36: the gradient is θ − θ′ = −0.36,
    and the rates have none."""
    assert outer("reptile", steps=1, rate=0.1) == pytest.approx((-0.36, 0.0), abs=1e-6)


def test_fine_tuning_offers_every_pair_of_steps_and_rate() -> None:
    adapter = make_body_adapter("finetune", steps=[1, 4], rate=[0.1, 0.2], rows=True)
    offered = [(c.steps, c.rate, c.rows) for c in adapter.choices()]
    assert offered == [(1, 0.1, True), (4, 0.1, True), (1, 0.2, True), (4, 0.2, True)]
    assert len(make_body_adapter("finetune").choices()) == 10
    assert [c.settings for c in make_body_adapter("reptile").choices()] == [{"steps": 3, "rate": 0.003}]


def test_learned_rates_are_one_a_weight() -> None:
    learned = make_body_adapter("gradient", scope="body", rate=0.5, learned_rates=True).pace(3)
    np.testing.assert_array_equal(learned.rates, np.full(3, 0.5, np.float32))
    assert np.shape(make_body_adapter("gradient", scope="body").pace(3).rates) == ()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("reptile", {"steps": 0}, r"adapter_settings\['steps'\] must be at least 1 and at most 50, got 0"),
        ("reptile", {"rate": 0}, r"adapter_settings\['rate'\] must be above 0 and at most 10, got 0"),
        ("finetune", {"steps": [1, 2.5]}, r"adapter_settings\['steps'\] must be a whole number, got 2.5"),
        ("finetune", {"rate": []}, r"adapter_settings\['rate'\] must be a number or several, got \[\]"),
        ("finetune", {"rate": [0.1, "x"]}, r"adapter_settings\['rate'\] must be a finite number, got 'x'"),
        ("finetune", {"rows": 1}, r"adapter_settings\['rows'\] must be true or false, got 1"),
        (
            "gradient",
            {"scope": "body", "first_order": "no"},
            r"adapter_settings\['first_order'\] must be true or false, got 'no'",
        ),
        ("gradient", {"scope": "body", "noise": 1.0}, "adapter_settings must fit adapter gradient"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        make_body_adapter(name, **settings)
