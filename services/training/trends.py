"""What was chosen of late at any moment of the data, and how much the long run counts beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.training.data import TrainingData
from services.training.parts import people_at_once
from services.training.windows import generator
from shared.domain import FloatArray, IntArray, TimeArray
from shared.holdout import Role
from shared.trends import HALF_LIFE_S, Trends

_STAGE = 5
# What the prior is chosen from, in events.
PRIORS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0)
# Before the first moment asked for, events of so many half-lives are left out: a millionth of one each.
_REACH = 20
_EVENTS_ASKED = 4000
# Moments whose weights of the whole catalogue are in memory at once, at most.
_AT_A_TIME = 64


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """Training people's first events on each item, those that are positive, oldest first: time_ms [E] int64,
    items [E] int32, weights [E] float32, their labels. num_items: N."""

    time_ms: TimeArray
    items: IntArray
    weights: FloatArray
    num_items: int

    @classmethod
    def of(cls, data: TrainingData) -> Recent:
        among = np.isin(data.roles, [int(Role.TRAIN)])[data.owners]
        labels = data.labels
        places = np.argsort(data.time_ms, kind="stable")
        pairs = data.owners[places].astype(np.int64) * data.num_items + data.items[places]
        places = places[np.sort(np.unique(pairs, return_index=True)[1])]
        places = places[(among & (labels > 0))[places]]
        return cls(data.time_ms[places], data.items[places], labels[places], data.num_items)

    @property
    def counts(self) -> FloatArray:
        """[N] float32: weight on each item over the whole time."""
        return np.bincount(self.items, self.weights, minlength=self.num_items).astype(np.float32)

    def before(self, moments_ms: TimeArray, half_life_s: float = HALF_LIFE_S) -> FloatArray:
        """Weight on each item of the events before each moment, w·2^(−age / half-life), as the feature
        service counts what is trending. [B] int64 → [B, N] float32."""
        half_life_ms = 1000.0 * half_life_s
        order = np.argsort(moments_ms, kind="stable")
        result = np.zeros((len(moments_ms), self.num_items), np.float32)
        sums = np.zeros(self.num_items)
        start, then = 0, 0.0
        if len(order):
            then = float(moments_ms[order[0]])
            start = int(np.searchsorted(self.time_ms, then - _REACH * half_life_ms))
        # From one moment to the next all there is fades alike, and only what came between is added.
        for place in order.tolist():
            now = float(moments_ms[place])
            end = int(np.searchsorted(self.time_ms, now))
            counted = self.weights[start:end] * np.exp2((self.time_ms[start:end] - now) / half_life_ms)
            sums *= np.exp2((then - now) / half_life_ms)
            sums += np.bincount(self.items[start:end], counted, minlength=self.num_items)
            result[place] = sums
            start, then = end, now
        return result


def find_trends(recent: Recent, *, seed: int) -> Trends:
    """The long run, and the prior of `PRIORS` that makes training people's own events likeliest, each
    from what was before it (type II maximum likelihood). No prior where there is no event."""
    counts = recent.counts
    size = len(recent.items)
    if not size:
        return Trends.none(recent.num_items)
    asked = np.sort(generator(seed, _STAGE, 0).choice(size, min(size, _EVENTS_ASKED), replace=False))
    own, total = np.zeros(len(asked)), np.zeros(len(asked))
    few = people_at_once(recent.num_items, _AT_A_TIME)
    for first in range(0, len(asked), few):
        part = slice(first, first + few)
        weights = recent.before(recent.time_ms[asked[part]])
        own[part] = np.take_along_axis(weights, recent.items[asked[part], None], axis=1)[:, 0]
        total[part] = weights.sum(axis=1)
    shares = Trends(counts).shares[recent.items[asked]]
    likely = [np.mean(np.log((own + prior * shares) / (total + prior))) for prior in PRIORS]
    return Trends(counts, PRIORS[int(np.argmax(likely))])
