"""The other services over gRPC, as the gateway's ports: each call with its timeout, behind its breaker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
import numpy as np
from warmstart.adaptation.v1 import adaptation_service_pb2 as adaptation_pb
from warmstart.adaptation.v1.adaptation_service_pb2_grpc import AdaptationServiceStub
from warmstart.common.v1 import model_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from warmstart.scoring.v1 import scoring_service_pb2 as scoring_pb
from warmstart.scoring.v1.scoring_service_pb2_grpc import ScoringServiceStub

from services.gateway.breaker import Breaker
from services.gateway.draft import Adapted, Likeness, Person, Scores, Taste
from services.gateway.ports import (
    CatalogueChanges,
    Hits,
    LikenessSearch,
    Refusal,
    Retrieved,
    ScoreAlso,
    Search,
)
from services.gateway.settings import GatewaySettings
from shared.domain import (
    AdaptedUser,
    Event,
    HeldModel,
    Item,
    NeighbourLike,
    RequestContext,
    Trail,
    UserContext,
)
from shared.rpc.channels import call, connect, stream
from shared.rpc.codec import (
    decode_adapted_user,
    decode_context,
    decode_held_model,
    decode_item,
    decode_model_ref,
    decode_tensor,
    encode_context,
    encode_event,
    encode_queries,
    encode_request_context,
    encode_tensor,
    encode_trail,
)
from shared.rpc.serving import remaining_s
from shared.rpc.turns import Turns
from shared.tls import source_of

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from warmstart.adaptation.v1.adaptation_service_pb2_grpc import AdaptationServiceAsyncStub
    from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceAsyncStub
    from warmstart.scoring.v1.scoring_service_pb2_grpc import ScoringServiceAsyncStub

A = TypeVar("A", bound="Message")
Q = TypeVar("Q", bound="Message")

# One stage may use this much of what a caller has left, so that the rungs below it still get their turn.
_SHARE_OF_REMAINING = 0.6
# A call that gave up earlier than after this share of its stage's timeout, as its caller had no more time, is
# no sign that the service is away.
_PATIENCE = 0.25
_PROBE_TIMEOUT_S = 1.0


def _bounded(timeout_s: float) -> float:
    return min(timeout_s, _SHARE_OF_REMAINING * remaining_s(timeout_s / _SHARE_OF_REMAINING))


class _Client(Protocol):
    @property
    def breaker(self) -> Breaker: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def turns(self) -> Turns: ...


async def _asked(client: _Client, rpc: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q) -> A:
    """One stage's call, which may be repeated safely. What its answer is used for is a long step."""
    given_s = _bounded(client.timeout_s)
    answer = await client.breaker.run(
        lambda: call(rpc, request, timeout_s=given_s, idempotent=True), given_s=given_s
    )
    await client.turns.next()
    return answer


@dataclass(frozen=True, slots=True)
class FeaturesClient:
    """Implements `ports.Features`."""

    stub: FeatureServiceAsyncStub
    breaker: Breaker
    timeout_s: float
    write_timeout_s: float
    turns: Turns = field(default_factory=Turns)

    async def person(
        self, domain: str, user_id: str, events: Sequence[Event], request: RequestContext
    ) -> Person:
        message = features_pb.GetUserContextRequest(
            domain=domain,
            user_id=user_id,
            events=[encode_event(event) for event in events],
            request=encode_request_context(request),
        )
        answer = await _asked(self, self.stub.GetUserContext, message)
        return Person(
            decode_context(answer.context, field="context"),
            frozenset(answer.seen_item_ids),
            tuple(NeighbourLike(n.item_id, n.weight, n.neighbours) for n in answer.neighbour_likes),
        )

    async def trending(self, domain: str, limit: int) -> Sequence[tuple[str, float]]:
        """Also the probe that tells whether features are there."""
        message = features_pb.ListTrendingItemsRequest(domain=domain, limit=limit)
        answer = await self.breaker.probe(
            lambda: call(self.stub.ListTrendingItems, message, timeout_s=_PROBE_TIMEOUT_S),
            given_s=_PROBE_TIMEOUT_S,
        )
        return [(item.item_id, item.weight) for item in answer.items if item.weight > 0.0]

    async def record(self, domain: str, events: Sequence[Event]) -> Sequence[Refusal]:
        message = features_pb.RecordEventsRequest(domain=domain, events=[encode_event(e) for e in events])
        answer = await self._write(self.stub.RecordEvents, message)
        rejected = features_pb.EVENT_STATUS_REJECTED
        return [Refusal(r.event_id, r.reason) for r in answer.results if r.status == rejected]

    async def items(self, domain: str, item_ids: Sequence[str]) -> Sequence[Item]:
        message = features_pb.GetItemsRequest(domain=domain, item_ids=item_ids)
        answer = await _asked(self, self.stub.GetItems, message)
        return [decode_item(item, field=f"items[{i}]") for i, item in enumerate(answer.items)]

    async def forward(self, method: str, message: Message, answered: type[A]) -> A:
        """A call of the catalogue's, of people's or of feedback, as the caller made it; always made, since a
        write has no rung below it. All of them may be repeated safely."""
        rpc = getattr(self.stub, method)
        answer = await self._write(rpc, message)
        assert isinstance(answer, answered)  # noqa: S101 - the stub's own type
        return answer

    async def _write(self, rpc: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q) -> A:
        given_s = remaining_s(self.write_timeout_s)
        return await self.breaker.probe(
            lambda: call(rpc, request, timeout_s=given_s, idempotent=True), given_s=given_s
        )

    async def watch(self, domain: str, cursor: str) -> AsyncGenerator[CatalogueChanges, None]:
        message = features_pb.WatchItemsRequest(domain=domain, cursor=cursor)
        async with aclosing(stream(self.stub.WatchItems, message)) as responses:
            async for response in responses:
                yield CatalogueChanges(
                    tuple(
                        decode_item(change.upserted, field="upserted")
                        for change in response.changes
                        if change.WhichOneof("change") == "upserted"
                    ),
                    tuple(
                        change.deleted_item_id
                        for change in response.changes
                        if change.WhichOneof("change") == "deleted_item_id"
                    ),
                    response.cursor,
                    response.snapshot_complete,
                )


@dataclass(frozen=True, slots=True)
class AdaptationClient:
    """Implements `ports.Adaptation`."""

    stub: AdaptationServiceAsyncStub
    breaker: Breaker
    timeout_s: float
    turns: Turns = field(default_factory=Turns)

    async def adapt(self, domain: str, context: UserContext, *, version: str, disabled: bool) -> AdaptedUser:
        message = adaptation_pb.AdaptUserRequest(
            domain=domain, context=_context(context), model_version=version, disable_adaptation=disabled
        )
        answer = await _asked(self, self.stub.AdaptUser, message)
        return decode_adapted_user(answer.user, field="user")

    async def serving(self, domain: str) -> Sequence[HeldModel]:
        """Also the probe that tells whether adaptation is there."""
        message = adaptation_pb.GetServingModelRequest(domain=domain)
        answer = await self.breaker.probe(
            lambda: call(self.stub.GetServingModel, message, timeout_s=_PROBE_TIMEOUT_S),
            given_s=_PROBE_TIMEOUT_S,
        )
        return [decode_held_model(m, field=f"models[{i}]") for i, m in enumerate(answer.models)]


@dataclass(frozen=True, slots=True)
class ScoringClient:
    """Implements `ports.Scoring`."""

    stub: ScoringServiceAsyncStub
    breaker: Breaker
    timeout_s: float
    turns: Turns = field(default_factory=Turns)

    async def retrieve(
        self,
        domain: str,
        searches: Sequence[Search],
        *,
        version: str,
        exclude: Sequence[str],
        also: ScoreAlso | None = None,
        trail: Trail | None = None,
    ) -> Retrieved:
        message = scoring_pb.RetrieveItemsRequest(
            domain=domain,
            model_version=version,
            queries=[_search(search) for search in searches],
            exclude_item_ids=exclude,
            score_also=_score_also(also) if also is not None else None,
            trail=encode_trail(trail) if trail is not None else None,
        )
        answer = await _asked(self, self.stub.RetrieveItems, message)
        return Retrieved(
            tuple(Hits(tuple(r.item_ids), np.array(r.scores, np.float32)) for r in answer.results),
            decode_model_ref(answer.model, field="model"),
            _scores(answer.scored) if also is not None else None,
        )

    async def score(self, domain: str, item_ids: Sequence[str], *, version: str, taste: Taste) -> Scores:
        message = scoring_pb.ScoreItemsRequest(
            domain=domain,
            model_version=version,
            item_ids=item_ids,
            queries=_queries(taste),
            similar_to=_similar_to(taste),
            trail=_trail(taste),
        )
        answer = await _asked(self, self.stub.ScoreItems, message)
        return _scores(answer)

    async def serving(self, domain: str) -> Sequence[HeldModel]:
        """Also the probe that tells whether scoring is there."""
        message = scoring_pb.GetServingModelRequest(domain=domain)
        answer = await self.breaker.probe(
            lambda: call(self.stub.GetServingModel, message, timeout_s=_PROBE_TIMEOUT_S),
            given_s=_PROBE_TIMEOUT_S,
        )
        return [decode_held_model(m, field=f"models[{i}]") for i, m in enumerate(answer.models)]


def _context(context: UserContext) -> model_pb2.UserContext:
    """Profiles that nobody made are left unset: only adaptation knows their length."""
    message = encode_context(context)
    if not len(context.content_profile):
        message.ClearField("content_profile")
    if not len(context.social_profile):
        message.ClearField("social_profile")
    return message


def _search(search: Search) -> scoring_pb.RetrievalQuery:
    if isinstance(search, LikenessSearch):
        return scoring_pb.RetrievalQuery(items=_items_query(search.like), limit=search.limit)
    return scoring_pb.RetrievalQuery(vector=encode_tensor(search.vector), limit=search.limit)


def _score_also(also: ScoreAlso) -> scoring_pb.ScoreAlso:
    return scoring_pb.ScoreAlso(
        item_ids=also.item_ids, queries=_queries(also.taste), similar_to=_similar_to(also.taste)
    )


def _queries(taste: Taste) -> Sequence[model_pb2.TaskQuery]:
    return encode_queries(taste.user.tasks, taste.user.queries) if isinstance(taste, Adapted) else ()


def _trail(taste: Taste) -> model_pb2.Trail | None:
    trail = taste.user.trail if isinstance(taste, Adapted) else None
    return encode_trail(trail) if trail is not None else None


def _similar_to(taste: Taste) -> scoring_pb.ItemsQuery | None:
    return _items_query(taste) if isinstance(taste, Likeness) else None


def _scores(answer: scoring_pb.ScoreItemsResponse) -> Scores:
    shape = (len(answer.item_ids), len(answer.tasks))
    # Not only finite ones: a bad row must sort last, not cost the whole list.
    raw = decode_tensor(answer.scores, field="scores", shape=shape).astype(np.float32, copy=False)
    sketches = decode_tensor(answer.sketches, field="sketches", shape=(shape[0], None))
    return Scores(
        tuple(answer.item_ids),
        tuple(answer.tasks),
        raw,
        np.nan_to_num(sketches.astype(np.float32, copy=False)),
        decode_model_ref(answer.model, field="model"),
        tuple(answer.missing_item_ids),
    )


def _items_query(like: Likeness) -> scoring_pb.ItemsQuery:
    return scoring_pb.ItemsQuery(item_ids=like.item_ids, weights=like.weights)


@dataclass(frozen=True, slots=True)
class Clients:
    """The three services and the connections to them."""

    features: FeaturesClient
    adaptation: AdaptationClient
    scoring: ScoringClient
    channels: tuple[grpc.aio.Channel, ...]

    @classmethod
    def connect(cls, settings: GatewaySettings) -> Clients:
        """Connects lazily. Call it inside the event loop: channels belong to it.

        Raises SettingsError where the files for TLS are not good.
        """

        def breaker(name: str, timeout_s: float) -> Breaker:
            return Breaker(
                name,
                failures=settings.breaker_failures,
                open_s=settings.breaker_open_s,
                patience_s=_PATIENCE * timeout_s,
            )

        turns = Turns()
        targets = (settings.features_target, settings.adaptation_target, settings.scoring_target)
        tls = source_of(settings.calling_tls)
        features, adaptation, scoring = channels = tuple(connect(target, tls=tls) for target in targets)
        return cls(
            FeaturesClient(
                FeatureServiceStub(features),
                breaker("features", settings.features_timeout_s),
                settings.features_timeout_s,
                settings.write_timeout_s,
                turns,
            ),
            AdaptationClient(
                AdaptationServiceStub(adaptation),
                breaker("adaptation", settings.adaptation_timeout_s),
                settings.adaptation_timeout_s,
                turns,
            ),
            ScoringClient(
                ScoringServiceStub(scoring),
                breaker("scoring", settings.scoring_timeout_s),
                settings.scoring_timeout_s,
                turns,
            ),
            channels,
        )

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
