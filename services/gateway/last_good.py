"""The last good list of each person, in memory, bounded in age and number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.gateway.draft import Ranking


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    ranking: Ranking
    at: float


class LastGoodLists:
    """Least recently used out first. Holds rankings, not pages: filters and rules are applied anew."""

    def __init__(
        self, *, people: int, items: int, age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._people = people
        self._items = items
        self._age_s = age_s
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        # When people were forgotten, on a clock of forgettings: a list begun before that is not kept.
        self._forgotten: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.moment = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, domain: str, user_id: str, ranking: Ranking, *, since: int) -> None:
        """Keeps the best items of a ranking, with their scores before boosts.

        since: `moment` as the list was begun; where the person was forgotten after it, nothing is kept.
        """
        if self._forgotten.get((domain, user_id), 0) > since:
            return
        order = ranking.best_first()
        best = order[np.isfinite(ranking.base[order])][: self._items]
        if not len(best) or not self._people:
            return
        kept = Ranking(
            tuple(ranking.item_ids[i] for i in best.tolist()),
            ranking.base[best],
            ranking.base[best],
            ranking.tasks,
            ranking.task_values[best],
            ranking.sketches[best] if ranking.sketches is not None else None,
            ranking.bounds,
        )
        self._kept[domain, user_id] = _Kept(kept, self._clock())
        self._kept.move_to_end((domain, user_id))
        while len(self._kept) > self._people:
            self._kept.popitem(last=False)

    def get(self, domain: str, user_id: str) -> Ranking | None:
        """None where there is none, or none young enough."""
        kept = self._kept.get((domain, user_id))
        if kept is None:
            return None
        if self._clock() - kept.at > self._age_s:
            del self._kept[domain, user_id]
            return None
        return kept.ranking

    def forget(self, domain: str, user_id: str) -> None:
        """The person has acted, or has been erased."""
        self.moment += 1
        self._forgotten[domain, user_id] = self.moment
        self._forgotten.move_to_end((domain, user_id))
        if len(self._forgotten) > self._people:
            self._forgotten.popitem(last=False)
        self._kept.pop((domain, user_id), None)
