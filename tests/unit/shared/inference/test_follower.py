"""Following the item stream: snapshot, changes, reconnection, reconciliation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from shared.errors import StaleCursor, Unavailable
from shared.inference.follower import FeedBatch, ItemFollower, Pending
from shared.items import Content


def content(value: float) -> Content:
    return np.full(4, value, np.float16)


class ScriptedFeed:
    """Each connection plays one script: batches and then an error, an end, or waiting for ever."""

    def __init__(self, *scripts: Sequence[FeedBatch | Exception | None]) -> None:
        self._scripts = list(scripts)
        self.cursors: list[str] = []

    async def watch(self, domain: str, cursor: str) -> AsyncGenerator[FeedBatch, None]:
        self.cursors.append(cursor)
        for step in self._scripts.pop(0) if self._scripts else (None,):
            if step is None:
                await asyncio.Event().wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


@asynccontextmanager
async def following(*scripts: Sequence[FeedBatch | Exception | None]) -> AsyncIterator[ItemFollower]:
    feed = ScriptedFeed(*scripts)
    follower = ItemFollower(feed, "default")
    task = asyncio.ensure_future(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not feed._scripts, "not every connection was made"


async def gathered(follower: ItemFollower) -> Pending:
    return await asyncio.wait_for(follower.next_changes(), 5)


async def test_a_snapshot_comes_as_changes_and_then_as_the_whole() -> None:
    batches = [
        FeedBatch([("a", content(1)), ("b", content(2))], ""),
        FeedBatch([("a", content(3))], "7", snapshot_complete=True),
    ]
    async with following([*batches, None]) as follower:
        pending = await gathered(follower)
        assert {i: c[0] for i, c in pending.changes.items() if c is not None} == {"a": 3, "b": 2}
        assert pending.keep_only == {"a", "b"}
        assert follower.complete.is_set()
        assert follower.everything().changes.keys() == {"a", "b"}


async def test_before_the_snapshot_is_whole_nothing_is_known_to_be_gone() -> None:
    async with following([FeedBatch([("a", content(1))], ""), None]) as follower:
        assert (await gathered(follower)).keep_only is None
        assert follower.everything().keep_only is None


async def test_only_real_changes_are_passed_on() -> None:
    first = FeedBatch([("a", content(1))], "1", snapshot_complete=True)
    same = FeedBatch([("a", content(1))], "2")
    other = FeedBatch([("b", content(1)), ("a", None), ("c", content(1)), ("c", None)], "3")
    async with following([first, Unavailable("away")], [same, other, None]) as follower:
        assert (await gathered(follower)).changes.keys() == {"a"}
        pending = await gathered(follower)
        assert {i: c is None for i, c in pending.changes.items()} == {"a": True, "b": False, "c": True}
        assert pending.keep_only is None
        assert follower.everything().changes.keys() == {"b"}


@pytest.mark.parametrize("end", [Unavailable("away"), None])
async def test_it_resumes_after_the_last_cursor(end: Exception | None) -> None:
    lost = [FeedBatch([("a", content(1))], "41", snapshot_complete=True), FeedBatch([], "42")]
    feed = ScriptedFeed(lost if end is None else [*lost, end], [FeedBatch([("b", content(2))], "43"), None])
    follower = ItemFollower(feed, "default")
    task = asyncio.ensure_future(follower.run())
    while "b" not in follower.everything().changes:
        await asyncio.wait_for(follower.next_changes(), 5)
    assert feed.cursors == ["", "42"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_half_a_snapshot_is_taken_again_from_its_beginning() -> None:
    half = [FeedBatch([("a", content(1)), ("gone", content(1))], "5"), Unavailable("away")]
    whole = [FeedBatch([("a", content(1))], "6", snapshot_complete=True), None]
    feed = ScriptedFeed(half, whole)
    follower = ItemFollower(feed, "default")
    task = asyncio.ensure_future(follower.run())
    await asyncio.wait_for(follower.complete.wait(), 5)
    assert feed.cursors == ["", ""]
    assert follower.everything().changes.keys() == {"a"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_stale_cursor_means_the_snapshot_again_and_what_vanished_is_gone() -> None:
    first = [
        FeedBatch([("a", content(1)), ("b", content(1))], "1", snapshot_complete=True),
        Unavailable("away"),
    ]
    again = [FeedBatch([("b", content(1)), ("c", content(1))], "9", snapshot_complete=True), None]
    async with following(first, [StaleCursor("too old")], again) as follower:
        seen: list[Pending] = []
        while "c" not in follower.everything().changes:
            seen.append(await gathered(follower))
        assert follower.everything().changes.keys() == {"b", "c"}
        last = seen[-1] if seen[-1].keep_only == {"b", "c"} else await gathered(follower)
        assert last.keep_only == {"b", "c"}
        assert last.changes.keys() == {"c"}
