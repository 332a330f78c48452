"""Throw-away people: made for a measurement, erased after it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from shared.domain import Action, Event

_LIKE_GAP_MS = 60_000
# Erasures on their way at once.
_DELETERS = 8


@asynccontextmanager
async def throw_away_people(client: GatewayClient, count: int, purpose: str) -> AsyncIterator[list[str]]:
    """`count` fresh ids; whatever was stored of them is erased at the end, also after an error."""
    run = uuid.uuid4().hex[:12]
    people = [f"{purpose}-{run}-{n}" for n in range(count)]
    try:
        yield people
    finally:
        gate = asyncio.Semaphore(_DELETERS)

        async def erase(user_id: str) -> None:
            async with gate:
                await client.delete_user(user_id)

        await asyncio.gather(*(erase(user_id) for user_id in people))


async def like_some(
    client: GatewayClient,
    people: Sequence[str],
    item_ids: Sequence[str],
    likes: int,
    rng: np.random.Generator,
) -> None:
    """Gives each person a history of `likes` different items."""
    now_ms = time.time_ns() // 1_000_000
    for user_id in people:
        chosen = rng.choice(len(item_ids), size=min(likes, len(item_ids)), replace=False)
        events = [
            Event(user_id, item_ids[i], Action.LIKE, 0.0, now_ms - (likes - n) * _LIKE_GAP_MS, f"like-{n}")
            for n, i in enumerate(chosen)
        ]
        results = await client.record(events)
        refused = next((r for r in results if r.status != pb.FEEDBACK_STATUS_RECORDED), None)
        if refused is not None:
            raise CommandError(f"feedback was not stored: {refused.reason or refused}")
