from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.gateway.draft import Draft, Rung
from services.gateway.selectors import free_places


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
        finite = np.isfinite(draft.ranking.scores).tolist()
        ids = [item_id if ok else "" for item_id, ok in zip(draft.ranking.item_ids, finite, strict=True)]
        members = {
            source: {i for i, item_id in enumerate(ids) if item_id in found}
            for source in wanted
            if (found := draft.members(source))
        }
        order = with_quotas(draft.order.tolist(), free_places(draft), wanted, members)
        return replace(draft, order=np.array(order, np.int32))


def with_quotas(
    order: Sequence[int], places: int, wanted: Mapping[str, int], members: Mapping[str, set[int]]
) -> list[int]:
    """The order with its first `places` changed so that each source has its number there, if it can.

    order: candidates, best first. wanted: places by source; members: the candidates of each source. The order
    among those that stay is kept; those that come in stand last, in their own order; those that go out come
    next after the page.
    """
    page, rest = list(order[:places]), list(order[places:])
    needed: set[int] = set()
    for source, count in wanted.items():
        own = members.get(source, set())
        here = [i for i in page if i in own][:count]
        needed.update(here)
        coming = [i for i in rest if i in own][: count - len(here)]
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
