"""One person's ranking of the whole catalogue, through the gateway: the scores of given candidates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from warmstart.common.v1 import event_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from shared.limits import MAX_PAGE_SIZE

_PATIENCE_S = 30.0
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose ranking: a stored person, or a throw-away one who carries their events along."""

    user_id: str
    events: Sequence[event_pb2.Event] = ()
    time_ms: int = 0

    def request(self) -> pb.RecommendRequest:
        """The plain ranking by score: no diversity, no exploration."""
        request = pb.RecommendRequest(
            user_id=self.user_id,
            page_size=MAX_PAGE_SIZE,
            events=self.events,
            diversity=0.0,
            exploration_rate=0.0,
            experiment_key="story",
        )
        request.context.time_ms = self.time_ms
        return request


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rank of each item, from 1; the person's seen items are not in it."""

    ranks: Mapping[str, int]

    def percentile(self, item_id: str) -> float:
        """0 = first, 1 = last."""
        return (self.ranks[item_id] - 1) / max(1, len(self.ranks) - 1)

    def mean_rank(self, item_ids: Iterable[str]) -> float:
        """Over those of the items that are ranked. Raises CommandError where none is."""
        ranks = [self.ranks[i] for i in item_ids if i in self.ranks]
        if not ranks:
            raise CommandError("none of the items is ranked for this person")
        return sum(ranks) / len(ranks)


async def rank_catalogue(client: GatewayClient, asker: Asker, item_ids: Sequence[str]) -> Ranking:
    """Ranks every item: scores of one person and model compare over requests.

    A list in which the model took no part (a busy machine passes deadlines) is asked for again. Raises
    CommandError where that does not help.
    """
    scores: dict[str, float] = {}
    # A page holds all the candidates of its request, so that none needs a second page.
    for start in range(0, len(item_ids), MAX_PAGE_SIZE):
        request = asker.request()
        request.candidate_item_ids.extend(item_ids[start : start + MAX_PAGE_SIZE])
        response = await adapted_list(client, request)
        scores.update((item.item_id, item.score) for item in response.items)
    # Ties by id: a rank is the same each time it is asked for.
    ordered = sorted(scores, key=lambda item_id: (-scores[item_id], item_id))
    return Ranking({item_id: rank for rank, item_id in enumerate(ordered, start=1)})


async def adapted_list(client: GatewayClient, request: pb.RecommendRequest) -> pb.RecommendResponse:
    """A list in which the model took part. Raises CommandError where none comes."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        response = await client.recommend(request)
        if response.rung == pb.RUNG_ADAPTED:
            return response
        if time.monotonic() > deadline:
            told = "; ".join(f"{d.stage}: {d.reason}" for d in response.degradations)
            raise CommandError(f"the model takes no part in the lists: {told}")
        await asyncio.sleep(_PAUSE_S)
