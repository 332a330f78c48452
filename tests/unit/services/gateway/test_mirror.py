from __future__ import annotations

import random

import pytest

from services.gateway.catalogue.mirror import Mirror
from shared.domain import AttributeCondition, Item, ItemFilter
from tests.unit.services.gateway.world import an_item


def some_items(count: int = 60) -> list[Item]:
    genres = ("drama", "comedy", "war")
    return [
        Item(
            f"i{n:02d}",
            title=f"T{n}",
            description="long",
            categories=(genres[n % 3], *(("classic",) if n % 10 == 0 else ())),
            attributes={"lang": "en" if n % 2 else "nl", "era": str(n // 20)},
            available=n % 7 != 0,
            created_ms=1000 + n,
        )
        for n in range(count)
    ]


def cats(*names: str) -> frozenset[str]:
    return frozenset(names)


RULES = {
    "any": ItemFilter(any_categories=cats("drama", "war")),
    "all": ItemFilter(all_categories=cats("drama", "classic")),
    "none": ItemFilter(no_categories=cats("drama")),
    "attribute": ItemFilter(attributes=(AttributeCondition("lang", cats("en")),)),
    "not attribute": ItemFilter(attributes=(AttributeCondition("lang", cats("en"), True),)),
    "new": ItemFilter(created_from_ms=1050),
    "nothing": ItemFilter(any_categories=cats("nothing has it")),
    "all of it": ItemFilter(
        any_categories=cats("comedy"),
        no_categories=cats("classic"),
        attributes=(AttributeCondition("era", cats("0", "1")),),
        created_from_ms=1005,
    ),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_select_finds_what_looking_at_every_item_finds(rules: ItemFilter) -> None:
    items = some_items()
    wanted = [i for i in items if i.available and rules.admits(i)]
    expected = tuple(i.item_id for i in sorted(wanted, key=lambda i: (-i.created_ms, i.item_id)))
    assert Mirror.of(items).select(rules, 60) == expected


def test_a_wide_filter_is_not_selected() -> None:
    mirror = Mirror.of(some_items())
    assert mirror.select(ItemFilter(any_categories=cats("drama")), 5) is None
    assert mirror.select(ItemFilter(), 1000) is None


@pytest.mark.parametrize("name", ["none", "attribute", "not attribute", "new"])
def test_a_large_pool_is_not_looked_through(name: str) -> None:
    # 20 × 1 = 20 items at most may be looked at; these rules leave more (or the newest 10).
    assert Mirror.of(some_items()).select(RULES[name], 1) is None


def test_the_newest_come_first_without_those_unavailable() -> None:
    mirror = Mirror.of(some_items())
    assert mirror.newest(4) == ("i59", "i58", "i57", "i55")  # 56 = 7 · 8 is not available
    assert mirror.newest(10, since_ms=1058) == ("i59", "i58")


def test_items_change_and_go() -> None:
    mirror = Mirror.of([an_item("a1"), an_item("b1")])
    mirror.upsert(an_item("a1", categories=("c",), title="", available=False))
    assert mirror.title("a1") == "a1"
    assert not mirror.is_available("a1")
    assert mirror.num_available == 1
    assert mirror.select(ItemFilter(any_categories=cats("a")), 10) == ()
    mirror.delete("a1")
    mirror.delete("a1")
    assert mirror.get("a1") is None
    assert len(mirror) == 1
    item = mirror.get("b1")
    assert item is not None
    assert item.description == ""  # not kept


def test_any_order_of_changes_leaves_the_same_mirror_as_loading_what_is_left() -> None:
    rng = random.Random(7)
    kept: dict[str, Item] = {}
    mirror = Mirror()
    for _ in range(2000):
        item_id = f"i{rng.randrange(40)}"
        if rng.random() < 0.3:
            kept.pop(item_id, None)
            mirror.delete(item_id)
        else:
            item = an_item(
                item_id,
                categories=tuple(rng.sample(["x", "y", "z"], rng.randrange(3))),
                created_ms=rng.randrange(20),
                available=rng.random() < 0.8,
                attributes={"n": str(rng.randrange(3))},
            )
            kept[item_id] = item
            mirror.upsert(item)
    fresh = Mirror.of(kept.values())
    assert mirror._items == fresh._items
    assert mirror._postings == fresh._postings
    assert mirror._by_age == fresh._by_age
    assert mirror.num_available == fresh.num_available
