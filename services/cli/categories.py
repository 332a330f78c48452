"""Why a filter by categories leaves no item: often a category is written in another way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb

from shared.errors import WarmstartError

# A catalogue of more items is not read for a hint.
_MOST_ITEMS = 5000
_PAGE = 1000


class Catalogue(Protocol):
    """What is asked of a gateway."""

    async def list_items(self, page_size: int, page_token: str = "") -> catalog_pb.ListItemsResponse: ...


async def why_no_item(catalogue: Catalogue, asked: Sequence[str]) -> str:
    """A sentence for the person who asked for these categories and got nothing."""
    try:
        known = await _categories(catalogue)
    except WarmstartError:
        known = None
    wanted = " or ".join(map(repr, asked))
    if known is None or known.intersection(asked):
        return (
            f"every item of category {wanted} is seen, excluded, filtered out or not known (yet); upper and "
            "lower case differ"
        )
    folded = {name.casefold() for name in asked}
    alike = [repr(name) for name in sorted(known) if name.casefold() in folded]
    hint = (
        f"; there is {' and '.join(alike)}"
        if alike
        else "; `warmstart items get ITEM` shows those of an item"
    )
    return f"no item has category {wanted}{hint}"


async def _categories(catalogue: Catalogue) -> set[str] | None:
    """Those of all items; None where there are too many to look."""
    found: set[str] = set()
    token = ""
    while True:
        page = await catalogue.list_items(_PAGE, token)
        if page.total_items > _MOST_ITEMS:
            return None
        found.update(category for item in page.items for category in item.categories)
        token = page.next_page_token
        if not token:
            return found
