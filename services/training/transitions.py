"""The table of transitions, from training people's events."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags

from services.training.data import TrainingData
from shared.holdout import Role
from shared.transitions import Transitions

# Events apart at which one still follows the other, and what the pair counts then is 1/√distance. Validation
# people of MovieLens-1M and Amazon Games: as good as 1/distance, better than all of the nearest 3 or 5 alike;
# pairs taken both ways are worse throughout.
_FARTHEST = 20


def transitions(data: TrainingData, successors: int) -> Transitions:
    """S[i, j] = Σ 1/√d of the pairs "i, and d ≤ 20 events later j" in training people's histories, over
    √(n_i·n_j), the events of either; the `successors` strongest of each i.

    A repeated event is no transition. At most 1 (people who go to and fro would pass it).
    """
    among = np.isin(data.roles, [int(Role.TRAIN)])[data.owners]
    owners, items = data.owners[among], data.items[among]
    size = (data.num_items, data.num_items)
    table = csr_matrix(size, dtype=np.float32)
    for distance in range(1, _FARTHEST + 1):
        same = owners[distance:] == owners[:-distance]
        before, after = items[:-distance][same], items[distance:][same]
        other = before != after
        counts = np.full(int(other.sum()), distance**-0.5, np.float32)
        table += csr_matrix((counts, (before[other], after[other])), shape=size)
    scale = diags(1.0 / np.sqrt(np.maximum(np.bincount(items, minlength=data.num_items), 1.0)))
    return _strongest((scale @ table @ scale).tocsr(), successors)


def _strongest(table: csr_matrix, most: int) -> Transitions:
    """Of each row the largest entries, largest first; of equal ones the first."""
    found = Transitions.none(table.shape[0], most)
    for row in range(table.shape[0]):
        part = slice(table.indptr[row], table.indptr[row + 1])
        items, weights = table.indices[part], table.data[part]
        order = np.lexsort((items, -weights))[:most]
        found.items[row, : len(order)] = items[order]
        found.weights[row, : len(order)] = np.minimum(weights[order], 1.0)
    return found
