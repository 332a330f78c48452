"""Bounded concurrency that keeps order: rows of one key go through one lane, one batch after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar
from zlib import crc32

from services.cli.concurrency import all_or_none

T = TypeVar("T")

# Room for one batch that waits behind the one being sent: reading and sending overlap, memory stays bounded.
_WAITING_BATCHES = 1
# Rows read between two turns of the event loop where no batch fills up.
_ROWS_A_TURN = 500


async def send_in_lanes(
    rows: Iterable[T],
    *,
    lanes: int,
    batch_rows: int,
    batch_bytes: int,
    lane_key: Callable[[T], str],
    size_of: Callable[[T], int],
    send: Callable[[Sequence[T]], Awaitable[None]],
) -> None:
    """Sends all rows; returns when every batch is answered.

    Rows of the same key are sent in their order, never two batches of one lane at once. The first
    error of `send` cancels the other lanes and is raised as it is.
    """
    queues: list[asyncio.Queue[Sequence[T] | None]] = [asyncio.Queue(_WAITING_BATCHES) for _ in range(lanes)]

    async def work(queue: asyncio.Queue[Sequence[T] | None]) -> None:
        while (batch := await queue.get()) is not None:
            await send(batch)

    async def read() -> None:
        waiting: list[list[T]] = [[] for _ in range(lanes)]
        sizes = [0] * lanes
        for count, row in enumerate(rows):
            lane = crc32(lane_key(row).encode()) % lanes
            size = size_of(row)
            if waiting[lane] and (len(waiting[lane]) >= batch_rows or sizes[lane] + size > batch_bytes):
                await queues[lane].put(waiting[lane])
                waiting[lane], sizes[lane] = [], 0
            waiting[lane].append(row)
            sizes[lane] += size
            if count % _ROWS_A_TURN == 0:
                await asyncio.sleep(0)
        for queue, rest in zip(queues, waiting, strict=True):
            if rest:
                await queue.put(rest)
            await queue.put(None)

    await all_or_none([*(work(queue) for queue in queues), read()])
