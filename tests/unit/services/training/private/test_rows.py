"""Rows from what was told: strong patterns stay, noise alone gives none, and new items follow from text."""

from __future__ import annotations

import numpy as np
import pytest

from services.training.private.releases import Popularity, Together
from services.training.private.rows import biases, extend, private_rows, set_rows, taste_factors

RNG = np.random.default_rng(0)


def popularity(size: int, noise: float = 0.1) -> Popularity:
    return Popularity(np.full(size, 9.0), np.full(size, 3.0), 100.0, noise, noise)


def noise(size: int, deviation: float) -> np.ndarray:
    drawn = RNG.normal(0.0, deviation, (size, size))
    return np.triu(drawn) + np.triu(drawn, 1).T


def test_of_noise_alone_nothing_is_made() -> None:
    for _ in range(20):
        told = Together(np.arange(60), noise(60, 2.0), 2.0)
        assert not taste_factors(popularity(60), told, 8).any()


def test_a_pattern_that_stands_out_of_the_noise_is_kept() -> None:
    """Two groups of items; the pattern's eigenvalue is 40, the noise's edge 2 · 1 · √60 = 15.5."""
    side = np.repeat([1.0, -1.0], 30) / np.sqrt(60)
    told = Together(np.arange(60), 40.0 * np.outer(side, side) + noise(60, 1.0), 1.0)
    found = taste_factors(popularity(60), told, 8)
    assert np.count_nonzero(np.abs(found).sum(axis=0)) == 1
    assert np.abs(np.corrcoef(found[:, 0], side)[0, 1]) > 0.9
    assert np.linalg.norm(found, axis=1).mean() == pytest.approx(0.5)


def test_biases_are_logarithms_of_counts_and_noise_makes_no_item_impossible() -> None:
    told = Popularity(np.array([10.0, 1.0, -5.0]), np.ones(3), 10.0, 2.0, 0.2)
    found = biases(told)
    assert found.mean(axis=0) == pytest.approx([0.0, 0.0])
    assert found[0, 0] - found[2, 0] == pytest.approx(np.log(10.0 / 1.05))  # half of the noise, and .05
    assert found[1, 0] == found[2, 0]


def test_items_that_nothing_was_told_of_get_what_their_text_foretells() -> None:
    text = np.repeat(np.eye(2), 40, axis=0)
    items = np.r_[0:30, 40:70]
    found = extend(np.repeat([[1.0], [-1.0]], 30, axis=0), items, text)
    assert found[35, 0] > 0.5
    assert found[75, 0] < -0.5
    assert (found[items[:30], 0] == 1.0).all()


def test_a_model_has_the_rows_and_foretells_them_for_new_items() -> None:
    pytest.importorskip("tensorflow")
    from services.training.private.config import PrivateConfig
    from shared.modeling.config import ModelConfig
    from shared.modeling.model import WarmstartModel

    kinds = np.eye(4, 16)[np.arange(80) % 4]
    content = (kinds + RNG.normal(0.0, 0.05, kinds.shape)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    told = Together(np.arange(40), np.zeros((40, 40)), 1.0)
    rows = private_rows(content, popularity(80), told, 16)
    config = PrivateConfig(dim=8, adapt_dim=16).sizes(ModelConfig(buckets=(8, 20)), 16)
    model = WarmstartModel(config, content)
    set_rows(model, rows)
    known, new = model.item_rows(), model.item_rows(present=np.zeros(80, np.float32))
    np.testing.assert_allclose(known.support.numpy(), rows.of_width(16), atol=1e-5)
    np.testing.assert_allclose(known.input.numpy(), rows.of_width(8), atol=1e-5)
    np.testing.assert_allclose(known.output.numpy()[:, -2:], rows.biases, atol=1e-5)
    alike = new.support.numpy() @ known.support.numpy().T
    same = (np.arange(80)[:, None] - np.arange(80)[None]) % 4 == 0
    assert alike[same].mean() > alike[~same].mean() + 0.1
