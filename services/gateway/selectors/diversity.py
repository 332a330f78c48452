from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.gateway.draft import Draft
from services.gateway.selectors import free_places
from shared.domain import FloatArray, IntArray

# Candidates beyond the page among which likeness is weighed: bounds the work of long pages.
_MORE = 300


class DiversitySelector:
    """Best first, but an item like those above it gives way (MMR on sketches). Strength 0 = by score."""

    name = "diversity"

    def __init__(self, strength: float) -> None:
        self._strength = strength

    def select(self, draft: Draft) -> Draft:
        ranking = draft.ranking
        if ranking is None:
            return draft
        order = ranking.best_first()
        asked = draft.query.diversity
        strength = self._strength if asked is None else asked
        places = free_places(draft)
        if ranking.sketches is None or strength <= 0.0 or places < 2:
            return replace(draft, order=order)
        scores = ranking.scores[order]
        finite = int(np.isfinite(scores).sum())
        pool = order[: min(finite, places + _MORE)]
        chosen = pool[mmr(relevance(ranking.scores[pool]), ranking.sketches[pool], places, strength)]
        taken = set(chosen.tolist())
        rest = np.array([i for i in order.tolist() if i not in taken], np.int32)
        return replace(draft, order=np.concatenate([chosen, rest]).astype(np.int32))


def relevance(scores: FloatArray) -> FloatArray:
    """Finite scores, scaled to [0, 1], so that a strength means the same whatever the scale of the model."""
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    return ((scores - low) / (high - low) if high > low else np.ones_like(scores)).astype(np.float32)


def mmr(relevance: FloatArray, sketches: FloatArray, count: int, strength: float) -> IntArray:
    """Maximal marginal relevance (Carbonell & Goldstein, 1998, "The Use of MMR, Diversity-Based Reranking").

    Picks one by one the item with the largest (1 − strength) · relevance − strength · (its largest cosine
    with an item picked before). Ties go to the earlier item.

    Args:
        relevance: [n] float32 in [0, 1].
        sketches: [n, d] float32 of unit length.
        count: how many to pick, at most n.
        strength: in [0, 1]; 0 is by relevance alone, 1 by unlikeness alone (after the first).

    Returns:
        [min(count, n)] int32: places in the order picked.
    """
    n = len(relevance)
    count = min(count, n)
    picked = np.empty(count, np.int32)
    worth = np.float32(1.0 - strength) * relevance
    closest = np.full(n, -np.inf, np.float32)
    value = relevance.copy()  # the first pick has nothing to be unlike
    for place in range(count):
        best = int(np.argmax(value))
        picked[place] = best
        worth[best] = -np.inf
        np.maximum(closest, sketches @ sketches[best], out=closest)
        value = worth - np.float32(strength) * closest
    return picked
