"""Item tower and starting values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.modeling.initial import content_projection, cosine_factors, initial_rows
from tests.unit.shared.modeling.twin import CONFIG

tf = pytest.importorskip("tensorflow")


def test_an_item_is_its_id_on_top_of_what_its_content_says(model: Any) -> None:
    """row(id) − row(no id) = id − absence, whatever the content."""
    rng = np.random.default_rng(0)
    ids = rng.normal(size=(3, CONFIG.id_dim)).astype(np.float32)
    content = rng.normal(size=(3, CONFIG.content_dim)).astype(np.float32)
    here, gone = (model.tower(ids, np.full(3, p, np.float32), content) for p in (1, 0))
    own, nothing = (model.tower.split(x) for x in (ids - model.tower.absence.numpy(), np.zeros_like(ids)))
    for one, other, expected, constant in zip(here, gone, own, nothing, strict=True):
        np.testing.assert_allclose(one - other, expected - constant, atol=1e-5)


def test_rows_are_their_parts_the_constant_that_carries_a_persons_level_and_two_places_to_fill_in(
    model: Any,
) -> None:
    """id = [e ; ψ ; v ; φ ; b ; u ; bias of ratings], each number once."""
    parts = np.arange(CONFIG.id_dim, dtype=np.float32)[None]
    e, psi, v, phi, b, u, bias = np.split(parts[0], np.cumsum([8, 6, 8, 6, 2, 3]))
    rows = model.tower.split(tf.constant(parts))
    np.testing.assert_array_equal(rows.input[0], e)
    np.testing.assert_array_equal(rows.support[0], np.concatenate([psi, u, [1.0], bias]))
    np.testing.assert_array_equal(rows.output[0], np.concatenate([v, phi, u, [1.0], [0.0, 0.0], b, bias]))


def test_an_absent_id_is_not_read(model: Any) -> None:
    content = np.ones((2, CONFIG.content_dim), np.float32)
    zeros, sevens = (np.full((2, CONFIG.id_dim), v, np.float32) for v in (0.0, 7.0))
    one, other = (model.tower(ids, np.zeros(2, np.float32), content) for ids in (zeros, sevens))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_rows_have_the_sizes_of_the_manifest(model: Any) -> None:
    rows = model.item_rows()
    assert rows.input.shape == (12, CONFIG.input_dim)
    assert rows.support.shape == (12, CONFIG.support_dim)
    assert rows.output.shape == (12, CONFIG.output_dim)


def test_rows_of_some_items_are_those_of_the_whole_catalogue(model: Any) -> None:
    some = tf.constant([7, 2])
    for one, other in zip(model.item_rows(some), model.item_rows(), strict=True):
        np.testing.assert_allclose(one.numpy(), tf.gather(other, some).numpy(), atol=1e-6)


def test_content_adds_nothing_to_the_adapters_rows_of_an_item_with_an_id(model: Any) -> None:
    """ψ, φ and rating rows are their tables; the id embedding that is exported makes up for what the tower
    adds."""
    from shared.modeling.export import row_arrays

    exported = row_arrays(model)
    u, bias = np.split(model.tables["r"].numpy(), [CONFIG.rating_dim], axis=1)
    one = np.ones((12, 1), np.float32)
    support = np.concatenate([model.tables["psi"].numpy(), u, one, bias], axis=1)
    np.testing.assert_allclose(exported["support"], support, atol=1e-5)
    np.testing.assert_allclose(
        exported["output"][:, CONFIG.taste_dim : CONFIG.transition_offset], support[:, -5:-1], atol=1e-5
    )
    np.testing.assert_allclose(exported["output"][:, -1:], bias, atol=1e-5)
    phi = exported["output"][:, CONFIG.adapt_offset :][:, : CONFIG.adapt_dim]
    np.testing.assert_allclose(phi, model.tables["phi"].numpy(), atol=1e-5)
    rows = model.tower(exported["id"], np.ones(12, np.float32), model.catalogue_content)
    np.testing.assert_allclose(rows.support.numpy(), exported["support"], atol=1e-5)
    here, gone = model.item_rows(), model.item_rows(present=tf.zeros([12]))
    assert np.abs(here.support.numpy() - gone.support.numpy()).max() > 0.1


def test_no_text_is_no_direction(model: Any) -> None:
    projected = model.tower.project(np.zeros((1, CONFIG.content_dim), np.float32)).numpy()
    assert not projected.any()


def test_the_projection_keeps_distances_between_items() -> None:
    """With as many components as directions, half-whitened distances rank like the real ones."""
    rng = np.random.default_rng(1)
    content = rng.normal(size=(40, 4)).astype(np.float32) @ rng.normal(size=(4, 30)).astype(np.float32)
    found = content_projection(content, 8)
    assert found.components.shape == (30, 8)
    reduced = (content - found.centre) @ found.components
    assert np.linalg.matrix_rank(reduced, tol=1e-2) == 4
    assert np.abs(reduced.mean(axis=0)).max() < 1e-4


def test_the_projection_of_a_catalogue_without_text_is_zero() -> None:
    found = content_projection(np.zeros((5, 6), np.float32), 3)
    assert not found.components.any()
    assert not found.centre.any()


def test_factors_multiply_to_cosines() -> None:
    """Items 0 and 1 share person 1 of their two each, who has two events and so weighs 1/√2:
    columns (1, 1/√2) and (1/√2, 1), cosine = (1/2) / (3/2) = 1/3. Item 2 shares nobody."""
    users, items = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 1, 2])
    factors = cosine_factors(users, items, num_users=4, num_items=3, dim=5).astype(float)
    cosines = factors @ factors.T
    np.testing.assert_allclose(cosines, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]], atol=1e-5)


def test_factors_are_the_same_each_time() -> None:
    rng = np.random.default_rng(2)
    users, items = rng.integers(0, 30, 400), rng.integers(0, 20, 400)
    one, other = (cosine_factors(users, items, num_users=30, num_items=20, dim=6) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_biases_start_from_log_popularity() -> None:
    """Counts 3 and 0: log 4 and log 1, centred: ± log 2. Likes 1 and 0: ± log(2) / 2."""
    found = initial_rows(
        np.array([0, 1, 2]),
        np.array([0, 0, 0]),
        np.array([True, False, False]),
        num_users=3,
        num_items=2,
        dim=1,
    )
    half = np.log(2.0)
    np.testing.assert_allclose(found.biases, [[half, half / 2], [-half, -half / 2]], atol=1e-6)
