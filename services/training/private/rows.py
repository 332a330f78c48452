"""Item rows of a private model: from public text, and from what was told of people once.

All of it is made of the noisy sums and of the catalogue, so it costs no privacy. Training people's gradients
then move the body alone: noise on a table of all items at every step would bury it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.training.private.releases import Popularity, Together
from shared.domain import FloatArray
from shared.modeling.config import ModelConfig
from shared.modeling.initial import content_projection
from shared.modeling.model import WarmstartModel

Float64Array = NDArray[np.float64]
# How long the two halves of a row are. Development people of MovieLens-1M: .7 and .5 better than 1 and .25.
_TEXT, _TASTE = 0.7, 0.5
# Counts below so much of the noise tell nothing.
_FLOOR = 0.5
# How far beyond the edge of what noise alone gives an eigenvalue must lie: the edge is where the largest of
# many lies in the mean, and one that is but noise would be scaled up like any other.
_MARGIN = 1.1
# Ridge of the maps from text, in items.
_RIDGE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class PrivateRows:
    """text [N, A], tastes [N, B]: what an item's row of each width is cut from, the strongest first; biases
    [N, 2], of `next` and `like`."""

    text: Float64Array
    tastes: Float64Array
    biases: Float64Array

    def of_width(self, width: int) -> Float64Array:
        """Half of it text, half of it taste; what one of them lacks are zeros. [N, width]."""
        half = width // 2
        return np.concatenate([_fitted(self.text, width - half), _fitted(self.tastes, half)], axis=1)


def private_rows(content: FloatArray, popularity: Popularity, together: Together, width: int) -> PrivateRows:
    """content: [N, content_dim]; width: of the widest rows."""
    projection = content_projection(content, width - width // 2)
    some = np.any(content != 0.0, axis=1)
    text = ((content - projection.centre) @ projection.components).astype(np.float64) * some[:, None]
    text = _unit(text)
    tastes = extend(taste_factors(popularity, together, width // 2), together.items, text)
    return PrivateRows(_TEXT * text, tastes, biases(popularity))


def biases(popularity: Popularity) -> Float64Array:
    """Logarithms of how often items are chosen and liked, their mean 0. [N, 2]."""
    parts = ((popularity.chosen, popularity.noise), (popularity.liked, popularity.liked_noise))
    logs = np.stack([np.log(np.maximum(count, _FLOOR * noise + 0.05)) for count, noise in parts], axis=1)
    found: Float64Array = logs - logs.mean(axis=0)
    return found


def taste_factors(popularity: Popularity, together: Together, most: int) -> Float64Array:
    """F [m, most] with F Fᵀ ≈ how much oftener two items are chosen together than chance has it.

    Eigenvalues within what noise alone gives are dropped, the others freed of what it adds to them, and
    shrunk by how far noise turns their vectors (the spiked Wigner matrix; Capitaine, Donati-Martin and Féral,
    2009). Rows are scaled to a mean length of `_TASTE`; zeros where noise is all there is.
    """
    size = len(together.items)
    values, vectors = np.linalg.eigh(together.matrix)
    order = np.argsort(-values)[:most]
    values, vectors = values[order], vectors[:, order]
    edge = 2.0 * together.noise * np.sqrt(size)
    kept = values > max(_MARGIN * edge, 1e-9)
    within = np.sqrt(np.maximum(values**2 - edge**2, 0.0))
    free, turned = (values + within) / 2.0, within / np.maximum(np.abs(values), 1e-12)
    strength = np.where(kept, free * turned, 0.0)
    counts = np.maximum(popularity.chosen[together.items], _FLOOR * popularity.noise + 0.05)
    signs = np.where(np.abs(vectors).max(axis=0) == vectors.max(axis=0), 1.0, -1.0)
    factors = signs * vectors * np.sqrt(strength) / np.sqrt(counts)[:, None]
    length = float(np.linalg.norm(factors, axis=1).mean())
    return _fitted(factors * (_TASTE / length if length > 0.0 else 0.0), most)


def extend(factors: Float64Array, items: NDArray[np.int64], text: Float64Array) -> Float64Array:
    """Of the whole catalogue: items that nothing was told of get what their text foretells. [N, most]."""
    known = text[items]
    gram = known.T @ known + _RIDGE * np.eye(text.shape[1])
    found: Float64Array = text @ np.linalg.solve(gram, known.T @ factors)
    found[items] = factors
    return found


def set_rows(model: WarmstartModel, rows: PrivateRows) -> None:
    """Gives a model these rows, and its tower the map that foretells them from text, as far as one can, for
    items that come later."""
    config = model.config
    wide, narrow = rows.of_width(config.adapt_dim), rows.of_width(config.dim)
    parts = {"e": narrow, "psi": wide, "v": narrow, "phi": wide, "b": rows.biases}
    targets = np.concatenate([parts[name] for name in config.row_dims], axis=1)
    _open_both_ways(model, config)
    some = np.any(model.catalogue_content.numpy() != 0.0, axis=1)
    hidden = np.asarray(model.tower.hidden(model.projected), np.float64) * some[:, None]
    gram = hidden.T @ hidden + _RIDGE * np.eye(hidden.shape[1])
    model.tower.out.kernel.assign(np.linalg.solve(gram, hidden.T @ targets))
    said = model.content_rows().numpy()
    at = 0
    for name, size in config.row_dims.items():
        # The tables of ψ and φ hold whole rows, the others what text does not say.
        whole = parts[name] if name in ("psi", "phi") else parts[name] - said[:, at : at + size]
        model.tables[name].assign(whole.astype(np.float32))
        at += size


def _open_both_ways(model: WarmstartModel, config: ModelConfig) -> None:
    """A hidden layer of x and of −x: gelu(x) − gelu(−x) = x, so that the map may be linear."""
    kernel = np.zeros((config.content_rank, config.content_hidden), np.float32)
    both = min(config.content_rank, config.content_hidden // 2)
    kernel[np.arange(both), np.arange(both)] = 1.0
    kernel[np.arange(both), both + np.arange(both)] = -1.0
    model.tower.hidden.kernel.assign(kernel)
    model.tower.hidden.bias.assign(np.zeros(config.content_hidden, np.float32))


def _fitted(columns: Float64Array, width: int) -> Float64Array:
    """The first `width` columns, zeros beyond what there are."""
    cut = columns[:, :width]
    return np.pad(cut, [(0, 0), (0, width - cut.shape[1])])


def _unit(rows: Float64Array) -> Float64Array:
    found: Float64Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return found
