from __future__ import annotations

from collections.abc import Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Draft


class AvailableFilter:
    """Only items that the catalogue knows and that are available."""

    name = "available"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(filter(self._catalogue.of(draft.domain).is_available, item_ids))
