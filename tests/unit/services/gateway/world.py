"""A gateway without servers: the real pipeline over fakes, in a world of two tastes.

Items a1…a6 lie along the first axis, b1…b6 along the second; the lower the number, the longer the row:
a1 = (1.2, 0), a2 = (1.1, 0), … b6 = (0, 0.7). Without history all scores are 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.gateway.answers import Answer
from services.gateway.app import Ports, Rooms, pipeline
from services.gateway.pipeline import Pipeline
from services.gateway.query import ListQuery
from services.gateway.settings import GatewaySettings
from shared.domain import Action, Event, Item
from tests.fakes import FakeAdaptation, FakeFeatures, FakeScoring

NOW_MS = 1_800_000_000_000
ROWS = {
    f"{taste}{n}": ((1.3 - 0.1 * n, 0.0) if taste == "a" else (0.0, 1.3 - 0.1 * n))
    for taste in "ab"
    for n in range(1, 7)
}


def an_item(item_id: str, **changes: object) -> Item:
    fields: dict[str, object] = {
        "title": f"Title {item_id}",
        "description": f"About {item_id}",
        "categories": (item_id[0],),
        "attributes": {"number": item_id[1:]},
        "created_ms": 1,
    }
    return Item(item_id, **(fields | changes))  # type: ignore[arg-type]


def event(item_id: str, action: Action = Action.LIKE, *, user_id: str = "ann", minute: int = 0) -> Event:
    time_ms = NOW_MS - 3_600_000 + 60_000 * minute
    return Event(user_id, item_id, action, 0.0, time_ms, f"{user_id}-{item_id}-{action}-{minute}")


def plain_settings(**changes: object) -> GatewaySettings:
    """No chance, no diversity, no quotas: lists are by score alone."""
    fields: dict[str, object] = {
        "exploration_rate": 0.0,
        "diversity": 0.0,
        "source_quotas": {},
        "token_secret": "secret",
        "trending_refresh_s": 3600.0,
        "model_poll_s": 3600.0,
    }
    return GatewaySettings(**(fields | changes))  # type: ignore[arg-type]


@dataclass
class World:
    features: FakeFeatures
    adaptation: FakeAdaptation
    scoring: FakeScoring
    rooms: Rooms
    pipeline: Pipeline
    asked: list[ListQuery] = field(default_factory=list)

    async def recommend(self, **fields: object) -> Answer:
        query = ListQuery(**({"domain": "default", "user_id": "ann"} | fields))  # type: ignore[arg-type]
        answer = await self.pipeline.recommend(query)
        await asyncio.sleep(0)  # the answer goes out; what is done after it gets its turn
        return answer

    async def ids(self, **fields: object) -> list[str]:
        return [item.item_id for item in (await self.recommend(**fields)).items]

    def acts(self, *events: Event) -> None:
        for each in events:
            self.features.histories.setdefault(each.user_id, []).append(each)

    async def pages(self, **fields: object) -> list[Answer]:
        """All pages of one list."""
        answers = [await self.recommend(**fields)]
        while answers[-1].next_page_token:
            answers.append(await self.recommend(**fields, page_token=answers[-1].next_page_token))
        return answers


@asynccontextmanager
async def world(items: Sequence[Item] | None = None, **settings: object) -> AsyncIterator[World]:
    features = FakeFeatures([an_item(i) for i in ROWS] if items is None else items)
    features.trending_items = [("b1", 1.0), ("b2", 0.5), ("a1", 0.25), ("a2", 0.125)]
    adaptation, scoring = FakeAdaptation(ROWS), FakeScoring(ROWS)
    told = plain_settings(**settings)
    ports = Ports(features, adaptation, scoring)
    rooms = Rooms.of(told, ports)
    rooms.catalogue.start()
    rooms.impressions.start()
    await rooms.catalogue.wait_complete()
    await rooms.trending.look()
    await rooms.models.look()
    made = World(features, adaptation, scoring, rooms, pipeline(told, ports, rooms))
    try:
        yield made
    finally:
        features.down = None
        await rooms.impressions.stop()
        await rooms.catalogue.stop()


def rows_of(prefix: str) -> list[str]:
    return [i for i in ROWS if i.startswith(prefix)]


def ids_of(answers: Sequence[Answer]) -> list[str]:
    return [item.item_id for answer in answers for item in answer.items]
