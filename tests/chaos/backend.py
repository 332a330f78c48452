"""A caller as a shop's backend is one, that remembers what was acknowledged and checks all it is given.

Feedback that got no answer is sent again with the same ids until it is acknowledged, as a backend with a
queue would; what was acknowledged must be there once, and no later list may show it again.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from warmstart.adaptation.v1 import adaptation_service_pb2 as adaptation_pb
from warmstart.adaptation.v1.adaptation_service_pb2_grpc import AdaptationServiceStub
from warmstart.common.v1 import event_pb2, item_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1.catalog_service_pb2_grpc import CatalogServiceStub
from warmstart.gateway.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from warmstart.scoring.v1 import scoring_service_pb2 as scoring_pb
from warmstart.scoring.v1.scoring_service_pb2_grpc import ScoringServiceStub

from shared.errors import InvalidInput, Overloaded, WarmstartError
from shared.rpc.channels import call, connect, stream
from shared.rpc.status import from_rpc_error
from tests.chaos.servers import Servers

LIST_TIMEOUT_S = 3.0
IMPATIENT_S = 1.0
READ_TIMEOUT_S = 3.0
FEEDBACK_TIMEOUT_S = 5.0
_PAGE = 10
_AGAIN_S = 0.25
_SETTLE_S = 60.0
_VERIFY_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Ledger:
    """What was acknowledged.

    acknowledged: event id → (person, item); items: of each person, those acted on as far as acknowledged;
    refused: event id → reason; unsettled: sent, and not yet acknowledged.
    """

    acknowledged: dict[str, tuple[str, str]] = field(default_factory=dict)
    items: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    refused: dict[str, str] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)

    def settle(self, event: event_pb2.Event, result: pb.FeedbackResult) -> None:
        self.unsettled.discard(event.event_id)
        if result.status == pb.FEEDBACK_STATUS_REJECTED:
            self.refused[event.event_id] = result.reason
            return
        self.acknowledged[event.event_id] = (event.user_id, event.item_id)
        self.items[event.user_id].add(event.item_id)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds of a ledger. lost: acknowledged and not in the log, or not in a person's history;
    twice: there more than once."""

    acknowledged: int
    lost: int
    twice: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was answered. calls: that were made for it; rung: of a list; broken: why a list must not be like
    this."""

    calls: int = 1
    rung: str = ""
    degraded: bool = False
    broken: str = ""


class Backend:
    """Calls the gateways, and the services behind them, through channels as ours are."""

    def __init__(self, stubs: dict[str, Any], item_ids: Sequence[str], *, people: int, seed: int) -> None:
        self._stubs = stubs
        self._item_ids = item_ids
        self._rng = random.Random(seed)
        self._people = [f"chaos-{seed}-{n}" for n in range(people)]
        self._sent: Counter[str] = Counter()
        self._pending: set[asyncio.Task[None]] = set()
        self.ledger = Ledger()

    def person(self) -> str:
        return self._rng.choice(self._people)

    async def catalogue(self, items: Sequence[item_pb2.Item]) -> None:
        for at in range(0, len(items), 500):
            request = catalog_pb.UpsertItemsRequest(items=items[at : at + 500])
            await call(self._stubs["catalogue"].UpsertItems, request, timeout_s=60.0, idempotent=True)

    async def list(self, *, timeout_s: float = LIST_TIMEOUT_S) -> Seen:
        """A list for somebody, checked. Raises our errors."""
        user_id = self.person()
        known = frozenset(self.ledger.items[user_id])
        request = pb.RecommendRequest(user_id=user_id, page_size=_PAGE)
        answer = await call(self._stubs["lists"].Recommend, request, timeout_s=timeout_s, idempotent=True)
        away = {d.stage for d in answer.degradations}
        return Seen(1, pb.Rung.Name(answer.rung), bool(away), self._wrong(answer, known, away))

    async def impatient_list(self) -> Seen:
        """A list, by a caller that sends all it is told and gives up after a second. Raises our errors."""
        request = pb.RecommendRequest(user_id=self.person(), page_size=_PAGE)
        try:
            answer = await self._stubs["plain lists"].Recommend(request, timeout=IMPATIENT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:  # gRPC refused it before the server took it up
                raise Overloaded("not taken up") from error
            raise from_rpc_error(error) from error
        away = {d.stage for d in answer.degradations}
        return Seen(1, pb.Rung.Name(answer.rung), bool(away), self._wrong(answer, frozenset(), away))

    async def read(self) -> Seen:
        """What somebody is like, by the three services that lists are made from."""
        s, user_id = self._stubs, self.person()
        found = await self._read(
            s["features"].GetUserContext, features_pb.GetUserContextRequest(user_id=user_id)
        )
        adapted = await self._read(
            s["adaptation"].AdaptUser, adaptation_pb.AdaptUserRequest(context=found.context)
        )
        query = scoring_pb.RetrievalQuery(vector=adapted.user.queries[0].vector, limit=_PAGE)
        hits = await self._read(s["scoring"].RetrieveItems, scoring_pb.RetrieveItemsRequest(queries=[query]))
        found_ids = hits.results[0].item_ids
        return Seen(
            3, broken="" if len(found_ids) == _PAGE else f"{len(found_ids)} of {_PAGE} items retrieved"
        )

    async def look_up(self) -> Seen:
        """Two items, by the gateway."""
        ids = self._rng.sample(self._item_ids, 2)
        got = await self._read(self._stubs["catalogue"].GetItems, catalog_pb.GetItemsRequest(item_ids=ids))
        if [item.item_id for item in got.items] != ids:
            return Seen(broken=f"{[i.item_id for i in got.items]} for {ids}")
        return Seen()

    async def feedback(self) -> Seen:
        """Somebody does something new. One attempt; without an answer it is sent again in the background.

        Raises our errors of the first attempt.
        """
        event = self._event()
        if event is None:
            return Seen()
        self.ledger.unsettled.add(event.event_id)
        try:
            await self._record(event)
        except WarmstartError:
            again = asyncio.create_task(self._until_recorded(event))
            self._pending.add(again)
            again.add_done_callback(self._pending.discard)
            raise
        return Seen()

    async def feedback_at(self, time_ms: int) -> str:
        """Somebody does something new at a moment of their own clock; why it was refused, empty where it was
        stored. Raises our errors."""
        event = self._event()
        assert event is not None
        event.time_ms = time_ms
        try:
            await self._record(event)
        except InvalidInput as error:  # there was no other that could be stored
            return str(error)
        return self.ledger.refused.get(event.event_id, "")

    async def settle(self) -> None:
        """Returns once everything that was sent has been acknowledged. AssertionError where it is not."""
        try:
            async with asyncio.timeout(_SETTLE_S):
                while self._pending:
                    await asyncio.wait(self._pending)
        except TimeoutError:
            raise AssertionError(f"{len(self._pending)} events were not acknowledged in the end") from None

    async def kept(self) -> Kept:
        """Looks at the log and at each person's history. Call it when all is settled and at rest."""
        logged: Counter[str] = Counter()
        request = features_pb.ExportEventsRequest()
        async for answer in stream(
            self._stubs["features"].ExportEvents, request, timeout_s=_VERIFY_TIMEOUT_S
        ):
            logged.update(event.event_id for event in answer.events)
        acknowledged = self.ledger.acknowledged
        lost = [event_id for event_id in acknowledged if not logged[event_id]]
        twice = sum(logged[event_id] - 1 for event_id in acknowledged if logged[event_id] > 1)
        told = Counter(user_id for user_id, _ in acknowledged.values())
        missing = 0
        for user_id in self._people:
            asked = features_pb.GetUserContextRequest(user_id=user_id)
            found = await call(
                self._stubs["features"].GetUserContext, asked, timeout_s=READ_TIMEOUT_S, idempotent=True
            )
            missing += max(0, told[user_id] - found.context.total_events)
            twice += max(0, found.context.total_events - told[user_id])
        return Kept(len(acknowledged), max(len(lost), missing), twice)

    def _event(self) -> event_pb2.Event | None:
        """Somebody's next one, on an item of theirs that is new; None where none is left."""
        user_id = self.person()
        number = self._sent[user_id]
        if number == len(self._item_ids):
            return None
        self._sent[user_id] += 1
        # A fixed walk over the catalogue from a place of one's own, so that no item comes twice.
        item_id = self._item_ids[(hash_of(user_id) + number) % len(self._item_ids)]
        actions = (event_pb2.ACTION_LIKE, event_pb2.ACTION_CLICK, event_pb2.ACTION_PURCHASE)
        return event_pb2.Event(
            event_id=f"{user_id}-{number}",
            user_id=user_id,
            item_id=item_id,
            action=actions[number % len(actions)],
            time_ms=int(time.time() * 1000),
        )

    async def _record(self, *events: event_pb2.Event) -> None:
        answer = await call(
            self._stubs["lists"].RecordFeedback,
            pb.RecordFeedbackRequest(events=events),
            timeout_s=FEEDBACK_TIMEOUT_S,
            idempotent=True,
        )
        for event, result in zip(events, answer.results, strict=True):
            self.ledger.settle(event, result)

    async def _until_recorded(self, event: event_pb2.Event) -> None:
        while event.event_id in self.ledger.unsettled:
            await asyncio.sleep(_AGAIN_S * self._rng.uniform(0.5, 1.5))
            try:
                await self._record(event)
            except WarmstartError:
                continue

    async def _read(self, rpc: Any, request: Any) -> Any:
        return await call(rpc, request, timeout_s=READ_TIMEOUT_S, idempotent=True)

    def _wrong(self, answer: pb.RecommendResponse, known: frozenset[str], away: set[str]) -> str:
        """Why a list must not be like this; empty where it is good."""
        ids = [item.item_id for item in answer.items]
        # Where a source could not be asked, there may be less to show; a list is never empty.
        if not ids or (len(ids) != _PAGE and not answer.degradations):
            gone = ", ".join(f"{d.stage}: {d.reason}" for d in answer.degradations)
            return f"{len(ids)} of {_PAGE} items (rung {answer.rung}; {gone or 'nothing missing'})"
        if len(set(ids)) != len(ids):
            return f"an item twice in {ids}"
        if answer.rung == pb.RUNG_UNSPECIFIED or (answer.rung != pb.RUNG_ADAPTED and not away):
            return f"{pb.Rung.Name(answer.rung)} and nothing named that was away"
        # Without features it is not known what somebody has acted on, and the list says that they are away.
        stale = known.intersection(ids) if "features" not in away else ()
        return f"shows {sorted(stale)}, acknowledged before the call" if stale else ""


def hash_of(text: str) -> int:
    """The same in every process, which Python's own is not."""
    return zlib.crc32(text.encode())


@asynccontextmanager
async def open_backend(
    servers: Servers, item_ids: Sequence[str], *, people: int = 200, seed: int = 0
) -> AsyncIterator[Backend]:
    """Connected to all replicas of all services."""
    channels = {name: connect(target) for name, target in servers.targets.items()}
    # Of those who do nothing to spare a server.
    plain = grpc.aio.insecure_channel(
        "ipv4:" + servers.targets["gateway"],
        [("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')],
    )
    stubs = {
        "plain lists": RecommendationServiceStub(plain),
        "lists": RecommendationServiceStub(channels["gateway"]),
        "catalogue": CatalogServiceStub(channels["gateway"]),
        "features": FeatureServiceStub(channels["features"]),
        "adaptation": AdaptationServiceStub(channels["adaptation"]),
        "scoring": ScoringServiceStub(channels["scoring"]),
    }
    try:
        yield Backend(stubs, item_ids, people=people, seed=seed)
    finally:
        for channel in (plain, *channels.values()):
            await channel.close()
