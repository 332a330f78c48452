from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Draft
from services.gateway.odds import multiplied
from services.gateway.query import Boost
from shared.domain import Item


class BoostSelector:
    """Boosts multiply an item's odds."""

    name = "boosts"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def select(self, draft: Draft) -> Draft:
        ranking, boosts = draft.ranking, draft.query.boosts
        if ranking is None or not boosts:
            return draft
        get = self._catalogue.of(draft.domain).get
        factors = np.array([log_factor(i, get(i), boosts) for i in ranking.item_ids], np.float32)
        scores = multiplied(ranking.base, factors, ranking.bounds)
        return replace(draft, ranking=replace(ranking, scores=scores))


def log_factor(item_id: str, item: Item | None, boosts: Sequence[Boost]) -> float:
    """Sum of log(factor) over the boosts that mean this item."""
    return sum(math.log(b.factor) for b in boosts if _means(b, item_id, item))


def _means(boost: Boost, item_id: str, item: Item | None) -> bool:
    if boost.item_id:
        return boost.item_id == item_id
    if item is None:
        return False
    if boost.attribute is not None:
        name, value = boost.attribute
        return item.attributes.get(name) == value
    return boost.category in item.categories
