"""What follows what: of each item those that people have chosen after it, and what a person's latest events
say by them.

Sums of so few numbers as a row has cannot hold which two items exactly go together in a catalogue of
thousands; a table can. Rules from pairs of events near each other are the "sequential rules" of Ludewig and
Jannach (2018, "Evaluation of session-based recommendation algorithms"); to mix what a memory of exact cases
says with what a network says is what nearest-neighbour language models do (Khandelwal et al., 2020,
"Generalization through memorization").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.domain import FloatArray, IntArray

# As if every item followed every other so strongly: weights go up to 1, and a thousandth of that is about
# what chance gives.
CHANCE = 1e-3
# How fast events count less as what transitions go out from: one n places before the latest e^(−n·FADING). Of
# .1, .4 and 1.5 the best on validation people of MovieLens-1M and of Amazon Games, nearly throughout.
FADING = 0.4

# What training chooses κ from, the factor of what follows in a score.
KAPPAS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2)


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """N items, each with its M strongest successors.

    items    [N, M] int32    their row numbers; −1 where there are fewer
    weights  [N, M] float32  how strongly they follow, 0 to 1; 0 where there are fewer
    """

    items: IntArray
    weights: FloatArray

    @classmethod
    def none(cls, num_items: int, successors: int) -> Transitions:
        """The table of a catalogue of which nothing is known."""
        shape = (num_items, successors)
        return cls(np.full(shape, -1, np.int32), np.zeros(shape, np.float32))

    def following(self, rows: IntArray, weights: FloatArray) -> tuple[IntArray, FloatArray]:
        """What follows a person's events: f_i = log(1 + Σ_e w_e · S[e, i] / CHANCE) of the items for which
        it is not 0.

        rows, weights: [n], the row numbers of the events' items (−1 = none) and what each counts, w_e ≥ 0,
        1 in all. Returns ascending row numbers and f, [m] each.
        """
        known = rows >= 0
        items = self.items[rows[known]]
        shares = self.weights[rows[known]] * weights[known][:, None]
        there = items >= 0
        # Over the whole catalogue, which costs less than to sort what there is.
        sums = np.bincount(items[there], shares[there], minlength=len(self.items))
        found = np.flatnonzero(sums)
        return found.astype(np.int32), np.log1p(sums[found] / CHANCE).astype(np.float32)

    def into_others(self, items: IntArray, values: FloatArray, alike: IntArray) -> FloatArray:
        """What follows into items that the table does not know: the mean f of the known items most like each,
        0 where nothing is.

        items, values: what `following` returns; alike: [n, m], row numbers, −1 = none. Returns [n] float32.
        """
        f = np.zeros(len(self.items) + 1, np.float32)  # the last of none
        f[items] = values
        counts = np.maximum((alike >= 0).sum(axis=1), 1)
        found: FloatArray = f[alike].sum(axis=1) / counts.astype(np.float32)
        return found

    def following_all(self, rows: IntArray, weights: FloatArray) -> FloatArray:
        """The same of B people, over the whole catalogue. rows, weights: [B, n]. Returns [B, N] float32."""
        result = np.zeros((len(rows), len(self.items)), np.float32)
        for person, (own, said) in enumerate(zip(rows, weights, strict=True)):
            items, values = self.following(own, said)
            result[person, items] = values
        return result
