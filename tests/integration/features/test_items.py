"""The catalogue and its change stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from warmstart.features.v1 import feature_service_pb2 as pb

from services.features.catalogue import ItemOutcome
from services.features.page_tokens import issue_page_token
from services.features.store.items import ItemStore, ItemWrite, PutStatus
from shared.content import CONTENT_DIM, TextEncoder, item_text
from shared.domain import Item
from shared.errors import InvalidInput, StaleCursor
from shared.limits import MAX_TIME_MS
from shared.rpc.codec import decode_tensor
from tests.integration.features.alone import a_domain
from tests.integration.features.client import Features, event, item, until
from tests.integration.features.conftest import Serve, shared_encoder
from tests.valkey import RunningValkey

CREATED, UPDATED, UNCHANGED, REJECTED, DELETED, NOT_FOUND = 1, 2, 3, 4, 5, 6
Stream = AsyncIterator[pb.WatchItemsResponse]


async def _snapshot(stream: Stream) -> tuple[dict[str, pb.ItemChange], str]:
    changes: dict[str, pb.ItemChange] = {}
    async for part in stream:
        changes |= {change.upserted.item_id: change for change in part.changes}
        if part.snapshot_complete:
            return changes, part.cursor
    raise AssertionError("the stream ended inside the snapshot")


async def _next_change(stream: Stream) -> tuple[pb.ItemChange, str]:
    part = await asyncio.wait_for(anext(stream), 10)
    (change,) = part.changes
    return change, part.cursor


async def test_items_are_created_updated_and_recognised_as_unchanged(features: Features) -> None:
    given = item("a", "Heat", ["Crime"], attributes={"year": "1995"})
    assert await features.put(given) == [CREATED]
    assert await features.put(given) == [UNCHANGED]
    assert await features.put(item("a", "Heat", ["Crime"])) == [UPDATED]
    assert await features.put(item("b"), item("b"), item("b", "Named")) == [CREATED, UNCHANGED, UPDATED]


async def test_an_items_birth_is_kept_when_it_is_updated_without_one(features: Features) -> None:
    await features.put(item("a", "Heat", created_ms=1000))
    await features.put(item("a", "Heat again"), item("b"))
    items = (await features.ask("GetItems", item_ids=["a", "b"])).items
    assert items[0].created_ms == 1000
    assert items[1].created_ms > 1_600_000_000_000


@pytest.mark.parametrize(
    ("meanwhile", "text"),
    [("other text", "Heat"), ("deleted", "Heat"), ("other text", "")],
    ids=["another text", "deleted", "a text where there was none"],
)
async def test_an_item_that_others_write_meanwhile_has_the_vector_of_its_own_text(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch, meanwhile: str, text: str
) -> None:
    """Two that are given at once, the latter with another text: the item is as it was given last."""
    put, puts = ItemStore.put, 0

    async def after_others(self: ItemStore, writes: Sequence[ItemWrite]) -> list[PutStatus]:
        nonlocal puts
        puts += 1
        if puts == 1:
            if meanwhile == "deleted":
                await features.catalogue.delete(["a"])
            else:
                await features.catalogue.upsert([Item("a", "Brand new words", created_ms=1)])
        return await put(self, writes)

    async with a_domain(session_valkey, domain, lambda: 1) as features:
        first = Item("a", text, attributes={"price": "1"}, created_ms=1)
        dearer, last = replace(first, attributes={"price": "2"}), replace(first, title="Not at all")
        for given in ([dearer], [dearer, last]):
            await features.catalogue.upsert([first])
            puts = 0
            with monkeypatch.context() as patch:
                patch.setattr(ItemStore, "put", after_others)
                assert ItemOutcome.UNCHANGED not in await features.catalogue.upsert(given)
            stored = (
                await ItemStore(features.store, features.keys, max_changes=9).read(["a"], vectors=True)
            )["a"]
            assert stored.item == given[-1]
            (expected,) = shared_encoder().encode_items([given[-1]])
            if item_text(given[-1]):
                np.testing.assert_allclose(stored.vector, expected, atol=1e-3)
            else:
                assert stored.vector is None


async def test_a_bad_item_is_rejected_and_the_others_go_on(features: Features) -> None:
    results = (await features.ask("UpsertItems", items=[item(""), item("a"), item("b", "x" * 1025)])).results
    assert [r.status for r in results] == [REJECTED, CREATED, REJECTED]
    assert "items[2].title must be at most 1024 bytes" in results[2].reason


async def test_an_item_from_the_future_is_rejected(features: Features) -> None:
    (result,) = (await features.ask("UpsertItems", items=[item("a", created_ms=MAX_TIME_MS)])).results
    assert result.status == REJECTED
    assert (
        "items[0].created_ms must be 0 (now) or milliseconds since 1970, at most 5 minutes" in result.reason
    )


async def test_items_are_read_in_the_order_asked_and_unknown_ones_named(features: Features) -> None:
    await features.put(item("a"), item("b", available=False), item("c"))
    answer = await features.ask("GetItems", item_ids=["c", "x", "b"])
    assert [i.item_id for i in answer.items] == ["c", "b"]
    assert [i.available for i in answer.items] == [True, False]
    assert list(answer.missing_item_ids) == ["x"]


async def test_the_catalogue_is_listed_page_by_page(features: Features) -> None:
    await features.put(*(item(f"i{n:02d}") for n in range(25)))
    listed: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = await features.ask("ListItems", page_size=10, page_token=token)
        listed += [i.item_id for i in page.items]
        assert page.total_items == 25
        token, pages = page.next_page_token, pages + 1
    assert pages == 3
    assert listed == [f"i{n:02d}" for n in range(25)]
    with pytest.raises(InvalidInput, match=r"page_size must be 1\.\.1000, or 0 for 100, got 1001"):
        await features.ask("ListItems", page_size=1001)
    for foreign in ("i09", "!", issue_page_token("elsewhere", "i09")):
        with pytest.raises(InvalidInput, match="page_token must be the next_page_token of a list of items"):
            await features.ask("ListItems", page_token=foreign)


async def test_watching_gives_the_catalogue_then_every_change(features: Features) -> None:
    await features.put(item("a", "Heat"), item("b", "Alien"))
    async with aclosing(features.watch()) as stream:
        held, _ = await _snapshot(stream)
        assert held.keys() == {"a", "b"}
        await features.put(item("c", "Brazil"))
        change, _ = await _next_change(stream)
        assert change.upserted.title == "Brazil"
        assert not change.HasField("content_embedding")
        deleted = (await features.ask("DeleteItems", item_ids=["a", "zzz"])).results
        assert [r.status for r in deleted] == [DELETED, NOT_FOUND]
        change, _ = await _next_change(stream)
        assert change.deleted_item_id == "a"
        await features.put(item("b", "Alien"))  # unchanged: nothing is announced
        await features.put(item("d", "Dune"))
        change, _ = await _next_change(stream)
        assert change.upserted.item_id == "d"


async def test_embeddings_come_as_float16_and_stand_for_the_text(features: Features) -> None:
    given = Item("a", "Heat", "A heist in Los Angeles", ("Crime",))
    await features.put(item("a", given.title, given.categories, description=given.description), item("bare"))
    async with aclosing(features.watch(include_embeddings=True)) as stream:
        held, _ = await _snapshot(stream)
    vector = decode_tensor(held["a"].content_embedding, field="content_embedding", shape=(CONTENT_DIM,))
    assert vector.dtype == np.float16
    np.testing.assert_allclose(vector, shared_encoder().encode_items([given])[0], atol=1e-3)
    assert not held["bare"].HasField("content_embedding")


async def test_a_change_of_other_fields_keeps_the_embedding(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    await features.put(item("a", "Heat"))

    def refuse(self: TextEncoder, texts: object) -> object:
        raise AssertionError("the text was embedded again")

    monkeypatch.setattr(TextEncoder, "encode", refuse)
    assert await features.put(item("a", "Heat", available=False)) == [UPDATED]
    async with aclosing(features.watch(include_embeddings=True)) as stream:
        held, _ = await _snapshot(stream)
    assert held["a"].HasField("content_embedding")


async def test_a_watcher_resumes_after_its_cursor_on_another_replica(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.put(item("a"))
        async with aclosing(one.watch()) as stream:
            _, cursor = await _snapshot(stream)
        await one.put(item("b"))
        await other.put(item("c"))
        await one.ask("DeleteItems", item_ids=["a"])
        async with aclosing(other.watch(cursor=cursor)) as stream:
            part = await asyncio.wait_for(anext(stream), 10)
        assert [c.upserted.item_id or c.deleted_item_id for c in part.changes] == ["b", "c", "a"]
        async with aclosing(one.watch(cursor=part.cursor)) as stream:
            await one.put(item("d"))
            change, _ = await _next_change(stream)
            assert change.upserted.item_id == "d"


async def test_a_cursor_past_the_kept_changes_or_of_another_store_is_out_of_range(serve: Serve) -> None:
    async with serve(item_changes=3) as features:
        async with aclosing(features.watch()) as stream:
            _, cursor = await _snapshot(stream)
        await features.put(*(item(f"i{n}") for n in range(5)))
        epoch = cursor.partition(":")[0]
        for stale in (cursor, "other:1", "nonsense", f"{epoch}:99"):
            async with aclosing(features.watch(cursor=stale)) as stream:
                with pytest.raises(StaleCursor, match="watch again without it"):
                    await anext(stream)
        async with aclosing(features.watch()) as stream:
            held, _ = await _snapshot(stream)
        assert len(held) == 5


async def test_five_followers_see_all_changes_while_one_does_not_read(features: Features) -> None:
    async def follow(stream: Stream, wanted: int) -> list[str]:
        seen: list[str] = []
        async for part in stream:
            seen += [change.upserted.item_id for change in part.changes]
            if len(seen) >= wanted:
                break
        return seen

    padding = {f"name{n}": "x" * 1000 for n in range(5)}
    idle = features.watch()
    streams = [features.watch() for _ in range(5)]
    try:
        await anext(idle)
        for stream in streams:
            await _snapshot(stream)
        reading = asyncio.gather(*(follow(stream, 600) for stream in streams))
        for at in range(0, 600, 100):
            await features.put(*(item(f"i{n}", attributes=padding) for n in range(at, at + 100)))
        for seen in await asyncio.wait_for(reading, 30):
            assert seen == [f"i{n}" for n in range(600)]
    finally:
        for stream in (idle, *streams):
            await stream.aclose()  # type: ignore[attr-defined]


async def test_an_item_stored_by_one_replica_is_in_the_contexts_of_another(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.put(item("a", "Heat", ["Crime"]))
        await other.record(event("ann", "a"))
        at_once = await other.context("ann")  # from the store, where the mirror is behind
        assert [c.category for c in at_once.context.categories] == ["Crime"]
        await one.put(item("a", "Heat", ["Thriller"]))

        async def caught_up() -> bool:
            answer = await other.context("ann")
            return [c.category for c in answer.context.categories] == ["Thriller"]

        await until(caught_up, within_s=2.0, says="the changed category")
