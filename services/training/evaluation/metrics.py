"""Ranking metrics over the whole catalogue (no sampled negatives), and intervals for paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.training.parts import people_at_once
from shared.domain import FloatArray, IntArray
from shared.vectors import leading

T = TypeVar("T")
Float64Array = NDArray[np.float64]
# People resampled at a time: bounds the bootstrap's memory.
_RESAMPLES_AT_ONCE = 500


def in_parts(people: Sequence[T], num_items: int) -> Iterator[Sequence[T]]:
    """Some people at a time, one at least, so that their scores of the whole catalogue fit into memory."""
    size = people_at_once(num_items, 256)
    for start in range(0, len(people), size):
        yield people[start : start + size]


def top_items(scores: FloatArray, masked: Sequence[IntArray], n: int) -> IntArray:
    """The n best items of each person, best first; masked items and non-finite scores come last.

    scores: [B, N]; masked: B arrays of item numbers. Ties go to the smaller number.
    Returns [B, n] int32 (or [B, N] where that is less), −1 in places that only masked items could fill.
    """
    cleaned = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float32)
    for row, items in enumerate(masked):
        cleaned[row, items] = -np.inf
    order = np.zeros((len(cleaned), min(n, cleaned.shape[1])), np.int32)
    for row, of_one in enumerate(cleaned):
        order[row] = leading(of_one, n)[:n]
    return np.where(np.isneginf(np.take_along_axis(cleaned, order, axis=1)), np.int32(-1), order)


def ranks_of(scores: FloatArray, items: IntArray) -> IntArray:
    """Rank (1 = best) of some items in one list: one more than the items that score higher.

    scores: [N], −inf for those left out; items: [m]. Returns [m] int32.
    """
    ordered = np.sort(scores)
    higher = len(scores) - np.searchsorted(ordered, scores[items], side="right")
    return (higher + 1).astype(np.int32)


def ndcg_at(ranked: IntArray, relevant: Sequence[IntArray], n: int) -> Float64Array:
    """Normalised discounted cumulative gain of the first n places, binary relevance.

    DCG = Σ 1 / log2(place + 1) over relevant places (from 1); the ideal has min(n, |relevant|) of
    them in front. (Järvelin and Kekäläinen, 2002.) ranked: [B, ≥ n]; B sets. [B] float64, 0 where a
    set is empty.
    """
    hits = _hits(ranked, relevant, n)
    discounts = 1.0 / np.log2(np.arange(hits.shape[1]) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(n) + 2.0))])
    best = ideal[[min(n, len(np.unique(r))) for r in relevant]]
    gained: Float64Array = hits.astype(np.float64) @ discounts
    return np.where(best > 0, gained / np.maximum(best, 1e-12), 0.0)


def hr_at(ranked: IntArray, relevant: Sequence[IntArray], n: int) -> Float64Array:
    """1.0 for each person with at least one relevant item among the first n. [B] float64."""
    found: Float64Array = np.any(_hits(ranked, relevant, n), axis=1).astype(np.float64)
    return found


def share_below(figures: Float64Array, others: Float64Array) -> float:
    """Share of people whose figure is lower than the other. [people] each; NaN without people."""
    return float(np.mean(figures < others)) if len(figures) else float("nan")


def _hits(ranked: IntArray, relevant: Sequence[IntArray], n: int) -> NDArray[np.bool_]:
    """[B, n]: whether the place holds a relevant item."""
    found = [np.isin(row, items) for row, items in zip(ranked[:, :n], relevant, strict=True)]
    return np.stack(found) if found else np.zeros((0, n), np.bool_)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95% interval, NaN where one person alone was asked."""

    mean: float
    low: float
    high: float

    @property
    def says_better(self) -> bool:
        return self.low > 0.0

    @property
    def says_worse(self) -> bool:
        return self.high < 0.0


def paired_bootstrap(
    differences: Float64Array, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval of the mean of per-person differences (Efron and Tibshirani, 1993, ch. 13).

    differences: [people], a − b of the same person. NaN without people; of one there is no interval.
    """
    people = len(differences)
    if people < 2:
        mean = float(differences[0]) if people else float("nan")
        return Interval(mean, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, resamples - start)
        drawn = rng.integers(0, people, size=(size, people))
        means.append(differences[drawn].mean(axis=1))
    tail = 100.0 * (1.0 - level) / 2.0
    low, high = np.percentile(np.concatenate(means), [tail, 100.0 - tail])
    return Interval(float(differences.mean()), float(low), float(high))
