"""Retrieval behind a small Protocol, and the exact index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.domain import FloatArray
from shared.vectors import leading

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The best items for one query, best first. scores: [n] float32."""

    item_ids: tuple[str, ...]
    scores: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """What scores are higher by: all of them by of_all, and some items' by values more. slots [n] int64,
    ascending, each once; values [n] float32."""

    slots: Slots
    values: FloatArray
    of_all: float = 0.0

    @classmethod
    def nothing(cls) -> Gains:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32))

    def times(self, factor: float) -> Gains:
        return Gains(self.slots, self.values * np.float32(factor), self.of_all * factor)

    def at(self, slots: Slots) -> FloatArray:
        """What the scores of these slots gain. [m] → [m]."""
        of_all = np.float32(self.of_all)
        if not len(self.slots):
            return np.full(len(slots), of_all)
        places = np.minimum(np.searchsorted(self.slots, slots), len(self.slots) - 1)
        found: FloatArray = np.where(self.slots[places] == slots, self.values[places], np.float32(0.0))
        return found + of_all


class ItemIndex(Protocol):
    """Finds the items whose rows have the largest inner product with a query."""

    def search(
        self,
        queries: FloatArray,
        limits: Sequence[int],
        excluded: Slots,
        added: Sequence[Sequence[Gains]] = (),
    ) -> list[Hits]:
        """For each query (a row of [Q, width]) the best `limits[q]` items that are not `excluded`.

        added: for each query what products are higher by; none for any where empty. Ties are broken by item
        id. Items with a non-finite score are left out.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ExactIndex:
    """Every item's score in one matrix product, then a partial sort.

    ids: slot → item id. rows: [slots, width] float32. alive: [slots] bool; only these are found.
    """

    ids: Sequence[str]
    rows: FloatArray
    alive: NDArray[np.bool_]

    def search(
        self,
        queries: FloatArray,
        limits: Sequence[int],
        excluded: Slots,
        added: Sequence[Sequence[Gains]] = (),
    ) -> list[Hits]:
        """See `ItemIndex`. Costs Q × slots × width multiplications, bound by memory."""
        # A product a query: for the one or two of a request a product of matrices costs 6 ms instead of 1
        # where the BLAS starts threads for it.
        scores = np.stack([self.rows @ query for query in queries])
        for row, gains in zip(scores, added, strict=False):
            for more in gains:
                row[more.slots] += more.values
                row += np.float32(more.of_all)
        allowed = self.alive.copy()
        allowed[excluded] = False
        # −inf marks what must not be found; NaN and +inf would sort first, so they go the same way.
        scores[:, ~allowed] = -np.inf
        scores[~np.isfinite(scores)] = -np.inf
        return [self._best(row, limit) for row, limit in zip(scores, limits, strict=True)]

    def _best(self, scores: FloatArray, limit: int) -> Hits:
        found = leading(scores, limit)  # all that tie for the last place, too
        found = found[scores[found] > -np.inf]
        found = self._ties_by_id(found, scores[found])[:limit]
        return Hits(tuple(self.ids[s] for s in found.tolist()), scores[found])

    def _ties_by_id(self, slots: Slots, scores: FloatArray) -> Slots:
        """slots: by falling score. Puts runs of equal scores into the order of their ids."""
        equal = np.flatnonzero(scores[1:] == scores[:-1])
        if not len(equal):
            return slots
        ordered = slots.copy()
        starts = equal[np.diff(equal, prepend=-2) > 1]
        ends = equal[np.diff(equal, append=len(slots) + 1) > 1] + 2
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            ordered[start:end] = sorted(slots[start:end].tolist(), key=self.ids.__getitem__)
        return ordered
