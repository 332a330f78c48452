"""What is chosen more now than in the long run, and what a score gains by it.

A model learns how often items are chosen over the whole time of its data; of somebody of whom nothing is
known, what is chosen *now* says more. The share of an item now is the posterior mean of a multinomial whose
prior is the long run, worth so many events (Dirichlet smoothing; Zhai and Lafferty, 2004, "A study of
smoothing methods for language models"); recent events are counted by forward decay (Cormode et al., 2009), as
the feature service counts what is trending. The logarithm of that share, less that of the long run, which
scores hold already, is what a score gains, times ω, which training chooses by task and number of shots on
validation people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.domain import FloatArray, IntArray

# After so long an event counts half. The feature service's default, too: prior and ω are found with it.
HALF_LIFE_S = 7 * 24 * 3600
# The least share that the items without a weight of their own are taken to have together.
_LEAST = 1e-3
# What training chooses ω from.
OMEGAS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3)


@dataclass(frozen=True, eq=False)
class Trends:
    """How often N items were chosen over the whole time of the data.

    counts: [N] float32, the weight of positive events on each; prior: the recent events that the long run
    counts as much as, 0 = scores gain nothing.
    """

    counts: FloatArray
    prior: float = 0.0

    @classmethod
    def none(cls, num_items: int) -> Trends:
        """Of a catalogue of which nothing is known."""
        return cls(np.zeros(num_items, np.float32))

    @cached_property
    def shares(self) -> FloatArray:
        """Of the items, one event more for each, and, last, of an item that was not there: as much as the one
        in the middle has, which is about what its rows, made from content, say. [N + 1] float32."""
        counts = self.counts.astype(np.float64) + 1.0
        shares = counts / counts.sum() if len(counts) else counts
        found: FloatArray = np.append(shares, np.median(shares) if len(counts) else 1.0).astype(np.float32)
        return found

    def lifts(
        self, rows: IntArray, weights: FloatArray, total: float | None = None
    ) -> tuple[FloatArray, float]:
        """What scores gain by recent events: f_i = log((w_i + S·p_i) / ((W + S)·p_i)), S the prior, p_i the
        shares, W the total.

        rows: [m], the items that are known to have recent events, −1 = one that was not there in training;
        weights: [m], w_i. total: of all recent events, those weights' sum unless given; what is more is on
        the other items, of which each has a part as large as its share.

        Returns how much more than all others they gain, [m] float32, and what all others do: 0 where nothing
        is recent, or there is no prior.
        """
        if not self.prior:
            return np.zeros(len(rows), np.float32), 0.0
        known = float(weights.sum())
        shares, prior = self.shares[rows].astype(np.float64), self.prior  # −1 is the last
        unknown = max((total or 0.0) - known, 0.0)
        others = prior + unknown / max(1.0 - float(shares[rows >= 0].sum()), _LEAST) if unknown else prior
        more = np.log((weights + prior * shares) / (others * shares))
        return more.astype(np.float32), float(np.log(others / (prior + known + unknown)))

    def lifts_all(self, weights: FloatArray) -> FloatArray:
        """The same of the whole catalogue, at B moments. [B, N] → [B, N] float32."""
        if not self.prior:
            return np.zeros_like(weights)
        of_all = np.log1p(weights.sum(axis=1, keepdims=True) / self.prior)
        lifted: FloatArray = np.log1p(weights / (self.prior * self.shares[:-1])) - of_all
        return lifted
