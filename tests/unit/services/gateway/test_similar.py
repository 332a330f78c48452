from __future__ import annotations

import pytest

from services.gateway.catalogue.details import ItemDetails
from services.gateway.query import SimilarQuery
from services.gateway.similar import SimilarItemsFinder
from shared.domain import ItemFilter
from shared.errors import NotFound, Unavailable
from tests.unit.services.gateway.world import World, an_item, world


def finder(w: World, narrow: int = 100) -> SimilarItemsFinder:
    return SimilarItemsFinder(
        w.scoring, w.rooms.catalogue, ItemDetails(w.features, w.rooms.catalogue), narrow
    )


async def ids(w: World, *item_ids: str, narrow: int = 100, **fields: object) -> list[str]:
    found = await finder(w, narrow).find(SimilarQuery("default", item_ids, **fields))  # type: ignore[arg-type]
    return [item_id for item_id, _ in found.items]


async def test_the_most_alike_come_first_without_the_items_themselves() -> None:
    async with world() as w:
        found = await finder(w).find(SimilarQuery("default", ("a3",), page_size=6))
        assert [i for i, _ in found.items] == ["a1", "a2", "a4", "a5", "a6", "b1"]
        # Cosine 1 along the same axis, 0 along the other.
        assert [round(s, 5) for _, s in found.items] == [1.0] * 5 + [0.0]
        assert found.model.version == "v1"


async def test_filters_exclusions_and_availability_hold() -> None:
    async with world() as w:
        w.rooms.catalogue.of("default").upsert(an_item("b1", available=False))
        rules = ItemFilter(any_categories=frozenset({"b"}))
        for narrow in (100, 1):  # scored one by one, or retrieved
            got = await ids(w, "a3", filter=rules, exclude_item_ids=frozenset({"b3"}), narrow=narrow)
            assert got == ["b2", "b4", "b5", "b6"]


async def test_a_filter_that_nothing_passes_gives_an_empty_list() -> None:
    async with world() as w:
        assert await ids(w, "a3", filter=ItemFilter(any_categories=frozenset({"z"}))) == []


async def test_items_nobody_knows_are_not_found() -> None:
    async with world() as w:
        with pytest.raises(NotFound, match="has none of them"):
            await ids(w, "nobody")
        assert await ids(w, "nobody", "a3", page_size=1) == ["a1"]


async def test_metadata_comes_where_asked_for_even_without_features() -> None:
    async with world() as w:
        query = SimilarQuery("default", ("a3",), page_size=1, include_items=True)
        assert (await finder(w).find(query)).details["a1"].description == "About a1"
        w.features.down = Unavailable("away")
        assert (await finder(w).find(query)).details["a1"].description == ""


async def test_without_scoring_it_says_so() -> None:
    async with world() as w:
        w.scoring.down = Unavailable("connection refused")
        with pytest.raises(Unavailable, match="connection refused"):
            await ids(w, "a3")
