"""Why an item is in the list, for people to read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from services.gateway.catalogue.mirror import Mirror
from services.gateway.draft import Draft

_BY_SOURCE = {
    "pin": "Featured",
    "trending": "Popular now",
    "fresh": "New",
    "catalogue": "From the catalogue",
    "exploration": "Something different",
}
_DEFAULT = "Picked for you"
# Cosine of sketches below which a liked item is no reason.
_ALIKE = 0.25


def reasons(draft: Draft, mirror: Mirror) -> dict[str, str]:
    """A reason for each place's item. People one follows come first, then the liked item most alike."""
    said: dict[str, str] = {}
    for found in draft.found:
        said.update(found.reasons)
    alike = _most_alike(draft)
    by_item: dict[str, str] = {}
    for place in draft.places:
        item_id, fixed = place.item_id, _BY_SOURCE.get(place.source)
        if item_id in said and fixed is None:
            by_item[item_id] = said[item_id]
        elif fixed is not None:
            by_item[item_id] = fixed
        elif item_id in alike:
            by_item[item_id] = f"Because you liked {mirror.title(alike[item_id])}"
        else:
            by_item[item_id] = _DEFAULT
    return by_item


def _most_alike(draft: Draft) -> Mapping[str, str]:
    """For items on the page: the liked item with the closest sketch, where it is close."""
    ranking, liked = draft.ranking, draft.liked_sketches
    if ranking is None or ranking.sketches is None or liked is None:
        return {}
    row_of = {item_id: row for row, item_id in enumerate(ranking.item_ids)}
    held = [place.item_id for place in draft.places if place.item_id in row_of]
    if not held:
        return {}
    cosines = ranking.sketches[[row_of[i] for i in held]] @ liked.T
    best = np.argmax(cosines, axis=1).tolist()
    return {
        item_id: draft.liked[b]
        for item_id, b, row in zip(held, best, cosines, strict=True)
        if row[b] >= _ALIKE and draft.liked[b] != item_id
    }
