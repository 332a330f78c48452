from __future__ import annotations

from collections.abc import Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Draft
from services.gateway.query import NO_FILTER


class RulesFilter:
    """Only items that keep the request's conditions on categories, attributes and age."""

    name = "rules"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        rules = draft.query.filter
        if rules == NO_FILTER:
            return tuple(item_ids)
        get = self._catalogue.of(draft.domain).get
        return tuple(i for i in item_ids if (item := get(i)) is not None and rules.admits(item))
