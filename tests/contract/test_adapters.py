"""One table for all adapters that are exported: a new one joins by a row. Those of the whole body have theirs
in `test_body_adapters.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from shared.adapters import ADAPTERS, Adapted, Ratings, Support, make_adapter
from shared.adapters.base import NUM_CHOICES
from shared.domain import Action
from shared.errors import InvalidInput
from shared.modeling.config import CHOICES

tf = pytest.importorskip("tensorflow")

# (name, settings)
TABLE: list[tuple[str, Mapping[str, Any]]] = [
    ("none", {}),
    ("ridge", {}),
    ("ridge", {"noise": 0.1, "chosen": (0.0, 0.0)}),
    ("gradient", {}),
    ("gradient", {"steps": 1, "first_order": True}),
    ("gradient", {"steps": 50, "learned_rates": True, "noise": 0.01}),
    ("amortised", {}),
    ("amortised", {"hidden": 3, "noise": 0.1}),
]
DIM, RANK, BATCH, STATE_DIM, RATING_DIM = 6, 4, 3, 5, 4
adapters = pytest.mark.parametrize(("name", "settings"), TABLE)


def made(name: str, settings: Mapping[str, Any]) -> Any:
    adapter = make_adapter(name, adapt_dim=DIM, rank=RANK, **settings)
    adapter.build()
    return adapter


def support(length: int = 7) -> Support:
    """People with 0, 2 and all events."""
    rng = np.random.default_rng(1)
    mask = np.arange(length)[None, :] >= length - np.array([[0], [2], [length]])
    on = mask.astype(np.float32)
    ages = np.sort(rng.uniform(0, 1e6, (BATCH, length)))[:, ::-1] * on
    rows = rng.normal(size=(BATCH, length, DIM)) * on[..., None]
    labels = rng.uniform(-1, 1, (BATCH, length)) * on
    actions = tf.constant(rng.integers(2, 10, (BATCH, length)) * mask, tf.int32)
    floats = (tf.constant(x, tf.float32) for x in (rows, labels, ages, on))
    rows, *others = floats
    return Support(rows, actions, *others)


def stars(length: int = 7) -> Ratings:
    """The same people, who have rated what they did last: 0, 1 and 4 of their items."""
    events, rng = support(length), np.random.default_rng(2)
    rated = events.mask * tf.cast(np.arange(length) % 2 == 0, tf.float32)
    rows = rng.normal(size=(BATCH, length, RATING_DIM)).astype(np.float32)
    rows[..., -2] = 1.0
    given = rng.uniform(-2, 2, (BATCH, length)).astype(np.float32)
    return Ratings(rows * events.mask[..., None], given * rated, rated)


def run(adapter: Any, events: Support) -> Adapted:
    adapted: Adapted = adapter(events, tf.ones([BATCH, STATE_DIM]))
    return adapted


def test_every_adapter_has_a_row() -> None:
    assert {name for name, _ in TABLE} == set(ADAPTERS)
    assert len(CHOICES) == NUM_CHOICES


@adapters
def test_shapes_and_finite_values(name: str, settings: Mapping[str, Any]) -> None:
    adapted = run(made(name, settings), support())
    assert adapted.fast_weights.shape == (BATCH, NUM_CHOICES, DIM)
    assert adapted.factor.shape == (BATCH, RANK, DIM)
    assert adapted.scale.shape == (BATCH,)
    assert all(np.isfinite(part.numpy()).all() for part in adapted)


@adapters
def test_no_events_give_no_fast_weights(name: str, settings: Mapping[str, Any]) -> None:
    adapted = run(made(name, settings), support())
    assert not adapted.fast_weights.numpy()[0].any()
    assert not adapted.factor.numpy()[0].any()


@adapters
def test_the_covariance_is_one(name: str, settings: Mapping[str, Any]) -> None:
    """I − FᵀF has no negative eigenvalue, and the scale is no negative number."""
    adapted = run(made(name, settings), support())
    factor = adapted.factor.numpy()
    eigenvalues = np.linalg.eigvalsh(np.eye(DIM) - np.einsum("bra,brc->bac", factor, factor))
    assert eigenvalues.min() > -1e-5
    assert adapted.scale.numpy().min() >= 0.0


@adapters
def test_padding_changes_nothing(name: str, settings: Mapping[str, Any]) -> None:
    adapter, events = made(name, settings), support()
    pad = [[0, 0], [4, 0]]
    longer = Support(tf.pad(events.rows, [*pad, [0, 0]]), *(tf.pad(x, pad) for x in events[1:]))
    for one, other in zip(run(adapter, events), run(adapter, longer), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


@adapters
def test_people_do_not_touch_each_other(name: str, settings: Mapping[str, Any]) -> None:
    adapter, events = made(name, settings), support()
    turned = Support(*(tf.reverse(x, [0]) for x in events))
    for one, other in zip(run(adapter, events), run(adapter, turned), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy()[::-1], atol=1e-5)


@adapters
def test_a_dislike_scores_an_item_lower_than_a_like(name: str, settings: Mapping[str, Any]) -> None:
    """φ = ψ of the newest item: its score under the fast weights follows its label."""
    adapter, events = made(name, settings), support()
    scores = []
    for action, label in ((Action.LIKE, 1.0), (Action.DISLIKE, -1.0)):
        labels = tf.concat([events.labels[:, :-1], tf.fill([BATCH, 1], label) * events.mask[:, -1:]], axis=1)
        actions = tf.concat([events.actions[:, :-1], tf.fill([BATCH, 1], int(action))], axis=1)
        fast = run(adapter, events._replace(labels=labels, actions=actions)).fast_weights
        scores.append(tf.einsum("bta,ba->bt", fast, events.rows[:, -1]).numpy()[1:])
    if ADAPTERS[name].learns_rows:
        assert (scores[0] > scores[1]).all()
    else:
        assert (scores[0] == scores[1]).all()


@adapters
def test_ratings_are_read_alike_by_all(name: str, settings: Mapping[str, Any]) -> None:
    """The ridge's closed form, or nothing; padding and other people change nothing."""
    adapter, ratings = made(name, settings), stars()
    found = adapter.star_weights(ratings).numpy()
    assert found.shape == (BATCH, RATING_DIM)
    assert not found[0].any()
    if ADAPTERS[name].learns_rows:
        np.testing.assert_allclose(found, made("ridge", {}).star_weights(ratings).numpy(), atol=1e-6)
        assert found[1:].any(axis=1).all()
    else:
        assert not found.any()
    pad = [[0, 0], [4, 0]]
    longer = Ratings(tf.pad(ratings.rows, [*pad, [0, 0]]), *(tf.pad(x, pad) for x in ratings[1:]))
    np.testing.assert_allclose(adapter.star_weights(longer).numpy(), found, atol=1e-5)
    turned = Ratings(*(tf.reverse(x, [0]) for x in ratings))
    np.testing.assert_allclose(adapter.star_weights(turned).numpy(), found[::-1], atol=1e-5)


@adapters
def test_gradients_reach_rows_and_variables(name: str, settings: Mapping[str, Any]) -> None:
    adapter, events = made(name, settings), support()
    with tf.GradientTape() as tape:
        tape.watch(events.rows)
        adapted = run(adapter, events)
        total = tf.reduce_sum(adapted.fast_weights**2) + tf.reduce_sum(adapter.star_weights(stars()) ** 2)
    watched = [events.rows, *(v.value for v in adapter.trainable_variables)]
    gradients = tape.gradient(total, watched)
    if ADAPTERS[name].learns_rows:
        assert all(np.isfinite(g.numpy()).all() and g.numpy().any() for g in gradients[:1])
        assert all(g is not None for g in gradients)


@adapters
def test_it_runs_inside_a_graph_with_open_shapes(name: str, settings: Mapping[str, Any]) -> None:
    adapter, events = made(name, settings), support()
    floats = [tf.TensorSpec([None, None])] * 3
    open_shapes = Support(tf.TensorSpec([None, None, DIM]), tf.TensorSpec([None, None], tf.int32), *floats)

    @tf.function(input_signature=[open_shapes, tf.TensorSpec([None, STATE_DIM])])  # type: ignore[untyped-decorator]
    def graph(given: Support, state: Any) -> Adapted:
        adapted: Adapted = adapter(given, state)
        return adapted

    compiled = graph(events, tf.ones([BATCH, STATE_DIM]))
    for one, other in zip(run(adapter, events), compiled, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(
        InvalidInput,
        match="adapter must be one of amortised, finetune, gradient, none, reptile, ridge, got 'maml'",
    ):
        make_adapter("maml", adapt_dim=DIM, rank=RANK)
    with pytest.raises(InvalidInput, match="must fit adapter none, whose settings are none, got"):
        make_adapter("none", adapt_dim=DIM, rank=RANK, noise=1.0)
