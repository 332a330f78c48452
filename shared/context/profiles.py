"""Profiles: what a person's events, and their neighbours', say in sum. All as of a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.domain import CategoryShare, FloatArray, TimeArray
from shared.limits import MAX_CATEGORY_SHARES

PROFILE_HALF_LIFE_S = 30 * 24 * 3600.0


def decay_weights(time_ms: TimeArray, now_ms: int, half_life_s: float = PROFILE_HALF_LIFE_S) -> FloatArray:
    """2^(−age / half-life) of each time; times after `now_ms` count as age 0. [n] float32."""
    age_s = np.maximum(now_ms - time_ms, 0) / 1000.0
    return np.exp2(-age_s / half_life_s).astype(np.float32)


def content_profile(
    embeddings: FloatArray, labels: FloatArray, time_ms: TimeArray, now_ms: int
) -> FloatArray:
    """Decayed mean of the content embeddings of positive events, to unit length.

    Args:
        embeddings: [n, content_dim]; zeros for items without text.
        labels: [n], see `labels.signed_labels`; only positive ones count, by their size.
        time_ms: [n]; now_ms: the moment asked for. Relative to the newest event where all
            are old, so that a profile never fades to nothing.

    Returns:
        [content_dim] float32, unit length, or zeros where there is no positive event with text.
    """
    dim = embeddings.shape[1]
    if len(labels) == 0:
        return np.zeros(dim, np.float32)
    moment = min(now_ms, int(time_ms.max()))
    weights = np.maximum(labels, 0.0) * decay_weights(time_ms, moment)
    return unit(weights @ embeddings)


def social_profile(profiles: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted mean of the neighbours' content profiles, to unit length.

    profiles: [m, content_dim]; weights: [m], relation strengths. Returns [content_dim] float32,
    zeros where m is 0.
    """
    if len(weights) == 0:
        return np.zeros(profiles.shape[1], np.float32)
    return unit(weights @ profiles)


def category_shares(
    categories: Sequence[Sequence[str]], labels: FloatArray, time_ms: TimeArray, now_ms: int
) -> tuple[CategoryShare, ...]:
    """Decayed share of each category among positive events, largest first (ties by name).

    categories: one sequence of names an event; an event's weight is split evenly over its names.
    """
    if len(labels) == 0:
        return ()
    moment = min(now_ms, int(time_ms.max()))
    weights = np.maximum(labels, 0.0) * decay_weights(time_ms, moment)
    totals: dict[str, float] = {}
    for names, weight in zip(categories, weights, strict=True):
        for name in names:
            totals[name] = totals.get(name, 0.0) + float(weight) / len(names)
    return shares_of(totals)


def shares_of(totals: Mapping[str, float]) -> tuple[CategoryShare, ...]:
    """Totals to shares of 1, largest first, at most MAX_CATEGORY_SHARES."""
    whole = sum(totals.values())
    if whole <= 0.0:
        return ()
    ordered = sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(CategoryShare(n, w / whole) for n, w in ordered[:MAX_CATEGORY_SHARES] if w > 0.0)


def unit(vector: FloatArray) -> FloatArray:
    """To unit length, zeros stay zeros. float32."""
    norm = float(np.linalg.norm(vector))
    scaled: FloatArray = (vector / norm if norm > 1e-12 else np.zeros_like(vector)).astype(np.float32)
    return scaled
