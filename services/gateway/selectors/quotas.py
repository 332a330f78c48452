from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TypeVar

import numpy as np

from services.gateway.draft import Draft, Rung
from services.gateway.selectors import free_places

T = TypeVar("T", bound=Hashable)


class QuotaSelector:
    """Sees to it that sources with few strong scores get a fair chance: at least a share of the places.

    What the model puts on the page counts as well. A source that still lacks places gets its best candidates
    into the last ones, over items that no quota needs. Shares add up over the pages of a list.
    """

    name = "quotas"

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = shares

    def select(self, draft: Draft) -> Draft:
        if draft.rung > Rung.RECENT_ITEMS or draft.ranking is None or draft.query.candidate_item_ids:
            return draft
        start, size = draft.page.start, draft.query.page_size
        wanted = {
            source: math.floor(share * (start + size) + 1e-9) - math.floor(share * start + 1e-9)
            for source, share in self._shares.items()
        }
        ids, scores = draft.ranking.item_ids, draft.ranking.scores
        order = draft.order.tolist()
        # Items that nothing could score are no source's best.
        unscored = {ids[i] for i in np.flatnonzero(~np.isfinite(scores)).tolist()}
        members = {source: draft.members(source) - unscored for source in wanted}
        ordered = [ids[i] for i in order]
        changed = with_quotas(ordered, free_places(draft), wanted, members)
        if changed == ordered:
            return draft
        place_of = dict(zip(ordered, order, strict=True))
        return replace(draft, order=np.array([place_of[i] for i in changed], np.int32))


def with_quotas(
    order: Sequence[T], places: int, wanted: Mapping[str, int], members: Mapping[str, Set[T]]
) -> list[T]:
    """The order with its first `places` changed so that each source has its number there, if it can.

    order: candidates, best first. wanted: places by source; members: the candidates of each source. The order
    among those that stay is kept; those that come in stand last, in their own order; those that go out come
    next after the page.
    """
    page, rest = list(order[:places]), list(order[places:])
    needed: set[T] = set()
    for source, count in wanted.items():
        own: Set[T] = members.get(source, frozenset())
        here = [i for i in page if i in own][:count]
        needed.update(here)
        short = count - len(here)
        coming = [i for i in rest if i in own][:short] if short > 0 else []
        for candidate in coming:
            going = next((i for i in reversed(page) if i not in needed), None)
            if going is None:
                break
            page.remove(going)
            rest.remove(candidate)
            page.append(candidate)
            rest.insert(0, going)
            needed.add(candidate)
    return page + rest
