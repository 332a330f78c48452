"""The last good list of each person, in memory, bounded in age and number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.gateway.draft import Ranking
from services.gateway.forgettings import Forgettings


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    ranking: Ranking
    at: float


class LastGoodLists:
    """Oldest out first, and whatever is too old. Holds rankings, not pages: filters and rules are applied
    anew. Nobody's id is in it."""

    def __init__(
        self, *, people: int, items: int, age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._people = people
        self._items = items
        self._age_s = age_s
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._forgotten = Forgettings(people)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def moment(self) -> int:
        """For `keep`: as the list is begun."""
        return self._forgotten.moment

    def keep(self, domain: str, user_id: str, ranking: Ranking, *, since: int) -> None:
        """Keeps the best items of a ranking, with their scores before boosts.

        since: `moment` as the list was begun; where the person was forgotten after it, nothing is kept.
        """
        self.expire()
        if self._forgotten.since(since, domain, user_id):
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
        person = self._forgotten.person(domain, user_id)
        self._kept[person] = _Kept(kept, self._clock())
        self._kept.move_to_end(person)
        while len(self._kept) > self._people:
            self._kept.popitem(last=False)

    def get(self, domain: str, user_id: str) -> Ranking | None:
        """None where there is none, or none young enough."""
        self.expire()
        kept = self._kept.get(self._forgotten.person(domain, user_id))
        return kept.ranking if kept is not None else None

    def forget(self, domain: str, user_id: str) -> None:
        """The person has acted, or has been erased."""
        self._forgotten.note(domain, user_id)
        self._kept.pop(self._forgotten.person(domain, user_id), None)

    def expire(self) -> None:
        """Drops what is too old; what was kept first stands first."""
        too_old = self._clock() - self._age_s
        while self._kept and next(iter(self._kept.values())).at < too_old:
            self._kept.popitem(last=False)
