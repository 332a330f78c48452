"""Whole items for the answer, where the request asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.gateway.catalogue.follower import Catalogue
from services.gateway.ports import Features
from shared.domain import Item


class ItemDetails:
    """As stored; the mirror has them too, but without descriptions."""

    def __init__(self, features: Features, catalogue: Catalogue) -> None:
        self._features = features
        self._catalogue = catalogue

    def mirrored(self, domain: str, item_ids: Sequence[str]) -> Mapping[str, Item]:
        get = self._catalogue.of(domain).get
        return {item_id: item for item_id in item_ids if (item := get(item_id)) is not None}

    async def stored(self, domain: str, item_ids: Sequence[str]) -> Mapping[str, Item]:
        return {item.item_id: item for item in await self._features.items(domain, item_ids)}
