from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.gateway.draft import Draft, Place
from services.gateway.rng import Rng
from services.gateway.selectors import free_places
from services.gateway.sources.model import EXPLORATION


class ExplorationSelector:
    """Fills the free places: mostly the best item left, with probability ε one drawn from the explore pool.

    The pool is what a draw from the posterior retrieved, and the fresh items. Every place's propensity is
    exact, given the places above and the pool.
    """

    name = "exploration"

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def select(self, draft: Draft) -> Draft:
        if draft.ranking is None:
            return draft
        ids = draft.ranking.item_ids
        exploit = [ids[i] for i in draft.order.tolist()]
        pool = _pool(draft, exploit) if draft.explores else []
        places = draw_places(
            exploit,
            pool,
            draft.sources,
            free_places(draft),
            draft.exploration_rate,
            self._rng(draft, self.name),
        )
        return replace(draft, places=tuple(places))


def draw_places(
    exploit: Sequence[str],
    pool: Sequence[str],
    sources: Mapping[str, str],
    count: int,
    rate: float,
    rng: np.random.Generator,
) -> list[Place]:
    """Places from the top, each an item not placed yet.

    With the pool reduced to what is neither placed nor the best item left, P items of it: the best item left
    has propensity 1 − rate (1 where P = 0), each pool item rate / P (1 / P where no best item is left).
    """
    places: list[Place] = []
    placed: set[str] = set()
    unplaced = dict.fromkeys(pool if rate > 0.0 else ())  # keeps the pool's order
    waiting = iter(exploit)
    best = next(waiting, None)
    while len(places) < count:
        while best is not None and best in placed:
            best = next(waiting, None)
        left = len(unplaced) - (best in unplaced)
        if best is None and not left:
            break
        explore = rate if best is not None else 1.0
        if left and rng.random() < explore:
            choices = [i for i in unplaced if i != best]
            place = Place(choices[int(rng.integers(left))], EXPLORATION, explore / left)
        else:
            assert best is not None  # noqa: S101 - else explore is 1 and something is left
            place = Place(best, sources[best], 1.0 - explore if left else 1.0)
        places.append(place)
        placed.add(place.item_id)
        unplaced.pop(place.item_id, None)
    return places


def _pool(draft: Draft, allowed: Sequence[str]) -> list[str]:
    """Explored and fresh items that passed the filters, in a fixed order."""
    wanted = draft.members(EXPLORATION) | draft.members("fresh")
    return sorted(wanted.intersection(allowed))
