"""Trending items, over gRPC."""

from __future__ import annotations

import time

import pytest

from shared.errors import InvalidInput
from tests.integration.features.client import NOW_MS, RECORDED, Features, event, item, until
from tests.integration.features.conftest import Serve

VIEW, LIKE, DISLIKE = 2, 4, 5
HOUR_MS = 3600 * 1000
YEAR_MS = 365 * 24 * HOUR_MS


async def _trending(features: Features, **fields: int) -> list[tuple[str, float]]:
    answer = await features.ask("ListTrendingItems", **fields)
    return [(i.item_id, round(i.weight, 3)) for i in answer.items]


async def test_weights_are_halved_by_each_half_life_and_negative_events_have_no_part(serve: Serve) -> None:
    async with serve(trending_half_life_hours=1) as features:
        await features.put(item("a"), item("b"), item("c"), item("d"))
        await features.record(
            event("u1", "a", LIKE, time_ms=NOW_MS),
            event("u2", "a", LIKE, time_ms=NOW_MS - HOUR_MS),  # 1 + 1/2
            event("u1", "b", LIKE, time_ms=NOW_MS - HOUR_MS),  # 1/2
            event("u1", "c", VIEW, time_ms=NOW_MS),  # .3
            event("u1", "d", DISLIKE, time_ms=NOW_MS),
        )
        assert await _trending(features) == [("a", 1.0), ("b", 0.333), ("c", 0.2)]


async def test_the_first_weighs_what_it_does_as_of_now(serve: Serve) -> None:
    async with serve(trending_half_life_hours=1) as features:
        await features.put(item("a"), item("b"))
        nothing = await features.ask("ListTrendingItems")
        assert (nothing.first_weight, nothing.half_life_s) == (0.0, 3600.0)
        now_ms = time.time_ns() // 1_000_000
        await features.record(
            event("u1", "a", LIKE, time_ms=now_ms - 2 * HOUR_MS),
            event("u2", "a", LIKE, time_ms=now_ms - HOUR_MS),
            event("u2", "b", LIKE, time_ms=now_ms - 3 * HOUR_MS),
        )
        found = await features.ask("ListTrendingItems")
        weights = [i.weight * found.first_weight for i in found.items]
        assert weights == pytest.approx([1 / 4 + 1 / 2, 1 / 8], rel=0.02)  # a minute may have passed
        assert found.total_weight == pytest.approx(7 / 8, rel=0.02)
        (first,) = (await features.ask("ListTrendingItems", limit=1)).items
        assert first.item_id == "a"
        assert (await features.ask("ListTrendingItems", limit=1)).total_weight == pytest.approx(
            7 / 8, rel=0.02
        )
        await features.put(item("a", available=False))

        async def less() -> bool:
            left = await features.ask("ListTrendingItems")
            return [i.item_id for i in left.items] == ["b"] and left.total_weight < 0.13

        await until(less, says="only b's weight")


async def test_events_on_items_that_are_no_longer_kept_are_in_the_weight_of_all(serve: Serve) -> None:
    async with serve(trending_items=2) as features:
        await features.put(*(item(f"i{n}") for n in range(5)))
        now_ms = time.time_ns() // 1_000_000
        for n in range(5):
            await features.record(*(event(f"u{m}", f"i{n}", LIKE, time_ms=now_ms) for m in range(n + 1)))

        async def kept() -> bool:
            found = await features.ask("ListTrendingItems")
            two = [i.item_id for i in found.items] == ["i4", "i3"]
            return two and abs(found.total_weight - 15.0) < 0.3

        await until(kept, says="two items, and the weight of all")


async def test_events_sent_twice_count_once_and_years_do_not_overflow(features: Features) -> None:
    await features.put(item("old"), item("new"))
    twice = event("u1", "old", time_ms=NOW_MS - 28 * YEAR_MS)
    await features.record(twice)
    await features.record(twice)
    assert await _trending(features) == [("old", 1.0)]
    await features.record(*(event(f"u{n}", "old", time_ms=NOW_MS - 28 * YEAR_MS) for n in range(100)))
    await features.record(event("u1", "new", time_ms=NOW_MS))
    assert (await _trending(features))[0] == ("new", 1.0)


async def test_nobody_makes_an_item_trend_by_repeating_themselves(features: Features) -> None:
    await features.put(item("a"), item("b"))
    likes = [event("u1", "a", event_id=f"again {n}") for n in range(200)]
    assert set(await features.record(*likes)) == {RECORDED}
    await features.record(event("u2", "b"), event("u3", "b"))
    assert await _trending(features) == [("b", 1.0), ("a", 0.5)]


async def test_who_is_erased_has_no_part_in_what_trends(features: Features) -> None:
    await features.put(item("a"), item("b"), item("c"))
    await features.record(
        event("u1", "a", LIKE), event("u1", "b", VIEW), event("u1", "b", LIKE), event("u1", "c", DISLIKE)
    )
    await features.record(event("u2", "a", LIKE), event("u2", "c", LIKE))
    assert await _trending(features) == [("a", 1.0), ("c", 0.5), ("b", 0.15)]
    before = await features.ask("ListTrendingItems")
    await features.ask("DeleteUser", user_id="u1")

    async def left() -> bool:
        found = await features.ask("ListTrendingItems")
        weights = {i.item_id: round(i.weight, 3) for i in found.items}
        return weights == {"a": 1.0, "c": 1.0} and found.total_weight < 0.9 * before.total_weight

    await until(left, says="what u2 chose alone")


async def test_only_available_items_of_the_catalogue_trend(features: Features) -> None:
    await features.put(item("a"), item("b"), item("c"))
    await features.record(*(event(f"u{n}", i) for i in ("a", "b", "x") for n in range(3)), event("u1", "c"))
    await features.put(item("a", available=False))
    await features.ask("DeleteItems", item_ids=["b"])

    async def left() -> bool:
        return await _trending(features) == [("c", 1.0)]

    await until(left, says="only c")


async def test_replicas_add_up(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.put(item("a"), item("b"))
        await one.record(event("u1", "a"), event("u2", "a"), event("u1", "b"))
        await other.record(event("u3", "b"), event("u4", "b"))

        async def added() -> bool:
            return await _trending(one) == await _trending(other) == [("b", 1.0), ("a", 0.667)]

        await until(added, says="both replicas' events")


async def test_what_was_counted_outlives_the_server(serve: Serve) -> None:
    async with serve() as features:
        await features.put(item("a"))
        await features.record(event("u1", "a"))
    async with serve() as features:
        assert await _trending(features) == [("a", 1.0)]


async def test_the_limit_is_kept_and_bounded(features: Features) -> None:
    await features.put(*(item(f"i{n}") for n in range(5)))
    await features.record(*(event("u1", f"i{n}", time_ms=NOW_MS + n) for n in range(5)))
    assert len(await _trending(features, limit=2)) == 2
    with pytest.raises(InvalidInput, match=r"limit must be 1\.\.10000, or 0 for 200, got 10001"):
        await _trending(features, limit=10_001)
