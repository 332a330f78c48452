"""The ladder's rungs without scoring: tried in order until one has an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from services.gateway.draft import Draft, Found, Ranking, Rung
from services.gateway.trending import TrendingSnapshot

Weighted = Sequence[tuple[str, float]]


class Fallback(Protocol):
    @property
    def name(self) -> str: ...

    def fall(self, draft: Draft) -> Draft:
        """The draft with candidates of its own and their ranking; unchanged where it has none."""
        ...


def fallen(draft: Draft, rung: Rung, list_before: Weighted, trending: TrendingSnapshot) -> Draft:
    """A draft ranked without scoring: a list of before by its log-odds, below that trending and the rest
    of the catalogue by log(weight).

    Where the request names its candidates, all of them are ranked: those that neither list knows come last,
    in the order they were named.
    """
    scores = dict(list_before)
    floor = min(scores.values(), default=0.0)
    top, rest = trending.top(draft.domain), trending.rest(draft.domain)
    for item_id, weight in (*top, *rest):
        scores.setdefault(item_id, floor + math.log(weight))
    found: tuple[Found, ...] = (
        Found("last_good_list", tuple(i for i, _ in list_before)),
        Found("trending", tuple(i for i, _ in top)),
        Found("catalogue", tuple(i for i, _ in rest)),
    )
    named = draft.query.candidate_item_ids
    if named:
        least = min(scores.values(), default=0.0)
        scores = {i: scores.get(i, least - 1.0 - place) for place, i in enumerate(named)}
        found = (Found("request", named),)
    base = np.array(list(scores.values()), np.float32)
    ranking = Ranking(tuple(scores), base, base)
    return replace(draft.with_found(found), rung=rung, ranking=ranking, taste=None, model=None)
