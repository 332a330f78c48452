"""Who comes when, in a stream of people: plain numbers, the same on every worker, without reading anybody.

People are stored in groups. An epoch deals the groups to the workers, in an order of its own; a worker puts
some of its groups side by side, a window, and shuffles the people in it. So each person comes at most once an
epoch, to one worker; memory holds a window; and any step's place is known without going through those before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from services.training.data import Int64Array
from shared.domain import IntArray
from shared.errors import InvalidInput

_STAGE = 4


@dataclass(frozen=True, slots=True)
class StreamShape:
    """batch: people a step, over all workers; window_groups: groups that are shuffled together."""

    batch: int
    window_groups: int = 16


@dataclass(frozen=True, slots=True)
class Window:
    """Some groups of one worker. first_step: of the first of the `batches` that it gives."""

    epoch: int
    groups: tuple[int, ...]
    first_step: int
    batches: int


@dataclass(frozen=True, slots=True, eq=False)
class StreamPlan:
    """One worker's part of a stream.

    people: [G] int64, people of each group; workers: equal shares of `shape.batch`, which must divide.
    Raises InvalidInput where a worker would go without.
    """

    people: Int64Array
    shape: StreamShape
    seed: int
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.shape.batch % self.workers:
            raise InvalidInput.of("batch", f"must divide by {self.workers} workers", self.shape.batch)
        if len(self.people) < self.workers:
            rule = f"must be at least as many as workers, {self.workers}"
            raise InvalidInput.of("groups of people", rule, len(self.people))
        together = min(len(self.people) // self.workers, self.shape.window_groups)
        fewest = int(np.sort(self.people)[:together].sum())
        if fewest < self.share:
            rule = f"must hold a worker's share of a batch, {self.share} people, {together} together"
            raise InvalidInput.of("groups of people", rule, fewest)

    @property
    def share(self) -> int:
        """People a step of this worker."""
        return self.shape.batch // self.workers

    def windows(self, first: int, total: int) -> Iterator[Window]:
        """Those of steps `first` … `total − 1`, in order; the first one may begin before `first`."""
        step = 0
        for epoch in count():
            steps = min(sum(w.batches for w in self._epoch(epoch, n)) for n in range(self.workers))
            for window in self._epoch(epoch, self.worker, step, steps):
                if window.first_step >= total:
                    return
                if window.first_step + window.batches > first:
                    yield window
            step += steps

    def order(self, window: Window) -> IntArray:
        """[people of the window] int32: their numbers in it, in the order in which they come."""
        size = int(self.people[list(window.groups)].sum())
        rng = np.random.default_rng([self.seed, _STAGE, window.epoch, 1 + window.groups[0]])
        return rng.permutation(size).astype(np.int32)

    def _epoch(self, epoch: int, worker: int, step: int = 0, steps: int | None = None) -> Iterator[Window]:
        """A worker's windows of an epoch that begins at `step` and takes `steps`, or all that it could take.

        What does not fill a batch at a window's end is left out this time.
        """
        rng = np.random.default_rng([self.seed, _STAGE, epoch, 0])
        mine = rng.permutation(len(self.people))[worker :: self.workers].tolist()
        left = np.inf if steps is None else steps
        for at in range(0, len(mine), self.shape.window_groups):
            groups = tuple(mine[at : at + self.shape.window_groups])
            batches = int(min(self.people[list(groups)].sum() // self.share, left))
            if batches:
                yield Window(epoch, groups, step, batches)
            step, left = step + batches, left - batches
