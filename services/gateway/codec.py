"""Requests → queries, answers → responses. Everything a decoder lets through keeps the contract's rules."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

from google.protobuf.message import Message
from warmstart.common.v1 import event_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.gateway.answers import Answer, ListedItem
from services.gateway.query import NO_CONTEXT, NO_FILTER, Boost, ListQuery, Pin, SimilarQuery
from services.gateway.similar import SimilarItems
from shared.domain import Event
from shared.errors import InvalidInput, TooLarge, Violation, violation
from shared.limits import (
    DEFAULT_PAGE_SIZE,
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_BOOST_FACTOR,
    MAX_BOOSTS,
    MAX_CANDIDATES,
    MAX_CARRIED_EVENTS,
    MAX_CATEGORY_BYTES,
    MAX_EXCLUDED,
    MAX_EXPERIMENT_KEY_BYTES,
    MAX_EXPLORATION_RATE,
    MAX_PAGE_SIZE,
    MAX_PIN_POSITION,
    MAX_PINS,
    MAX_SIMILAR_TO,
    MAX_TASK_WEIGHT,
    MAX_TASK_WEIGHTS,
    id_rule,
    text_rule,
)
from shared.rpc.codec import (
    check_domain,
    decode_event,
    decode_filter,
    decode_ids,
    decode_request_context,
    encode_item,
    encode_model_ref,
)

M = TypeVar("M", bound=Message)
_NOBODY = "must be empty where the list is ephemeral: nothing of the person is read or kept"
# Whose events are that are brought to an ephemeral list: they go no further than the list.
_ANYBODY = "ephemeral"
T = TypeVar("T")


class Checks:
    """Collects every broken rule of a request, so that the caller learns of all of them at once."""

    def __init__(self) -> None:
        self._broken: list[Violation] = []
        self._only_too_large = True

    def rule(self, field: str, rule: str, value: object) -> None:
        """Notes a broken rule; `rule` empty = kept."""
        if rule:
            self._broken.append(violation(field, rule, value))
            self._only_too_large = False

    def within(self, field: str, value: float, low: float, high: float) -> None:
        """NaN is within nothing."""
        self.rule(field, "" if low <= value <= high else f"must be {low:g}..{high:g}", value)

    def count(self, field: str, count: int, limit: int) -> bool:
        """False where there are too many: not worth looking at each."""
        if count > limit:
            self._broken.append(violation(field, f"must hold at most {limit}", count))
        return count <= limit

    def part(self, decode: Callable[[], T], default: T) -> T:
        """What a decoder makes of a part, `default` where it refuses it."""
        try:
            return decode()
        except InvalidInput as error:
            self._broken.extend(error.violations)
            self._only_too_large = self._only_too_large and isinstance(error, TooLarge)
            return default

    def ids(self, field: str, ids: Sequence[str], limit: int, *, least: int = 0) -> tuple[str, ...]:
        """Ids in their order, each once."""
        nothing: tuple[str, ...] = ()
        decoded = self.part(lambda: decode_ids(ids, field=field, max_count=limit, min_count=least), nothing)
        return tuple(dict.fromkeys(decoded))

    def raise_broken(self) -> None:
        if self._broken:
            raise (TooLarge if self._only_too_large else InvalidInput)(self._broken)


def decode_list_query(request: pb.RecommendRequest, served: Sequence[str], now_ms: int) -> ListQuery:
    """Raises InvalidInput naming every broken field (TooLarge where only counts are over their limits)."""
    check = Checks()
    domain = check_domain(request.domain, served)
    _check_user(check, request)
    rate = request.exploration_rate if request.HasField("exploration_rate") else None
    diversity = request.diversity if request.HasField("diversity") else None
    check.within("exploration_rate", rate or 0.0, 0.0, MAX_EXPLORATION_RATE)
    check.within("diversity", diversity or 0.0, 0.0, 1.0)
    key = request.experiment_key
    check.rule("experiment_key", text_rule(key, MAX_EXPERIMENT_KEY_BYTES), key)
    query = ListQuery(
        domain=domain,
        user_id=request.user_id,
        page_size=_page_size(check, request),
        page_token=request.page_token,
        candidate_item_ids=check.ids("candidate_item_ids", request.candidate_item_ids, MAX_CANDIDATES),
        exclude_item_ids=frozenset(check.ids("exclude_item_ids", request.exclude_item_ids, MAX_EXCLUDED)),
        filter=check.part(lambda: decode_filter(request.filter, field="filter"), NO_FILTER),
        boosts=_decode_boosts(check, request.boosts),
        pins=_decode_pins(check, request),
        context=check.part(
            lambda: decode_request_context(request.context, field="context", now_ms=now_ms), NO_CONTEXT
        ),
        diversity=diversity,
        experiment_key=key,
        events=_decode_events(check, request, now_ms),
        task_weights=_decode_weights(check, request.task_weights),
        exploration_rate=rate,
        include_seen=request.include_seen,
        include_items=request.include_items,
        disable_adaptation=request.disable_adaptation,
        ephemeral=request.ephemeral,
        digest=_digest(request),
    )
    check.raise_broken()
    return query


def encode_answer(answer: Answer) -> pb.RecommendResponse:
    return pb.RecommendResponse(
        list_id=answer.list_id,
        items=[_encode_listed(item) for item in answer.items],
        model=encode_model_ref(answer.model) if answer.model else None,
        shots_used=answer.shots,
        rung=pb.Rung.ValueType(answer.rung),
        degradations=[pb.Degradation(stage=d.stage, reason=d.reason) for d in answer.degradations],
        next_page_token=answer.next_page_token,
        timings=[pb.StageTiming(stage=t.stage, micros=t.micros) for t in answer.timings],
    )


def decode_similar_query(request: pb.ListSimilarItemsRequest, served: Sequence[str]) -> SimilarQuery:
    check = Checks()
    query = SimilarQuery(
        check_domain(request.domain, served),
        check.ids("item_ids", request.item_ids, MAX_SIMILAR_TO, least=1),
        _page_size(check, request),
        check.part(lambda: decode_filter(request.filter, field="filter"), NO_FILTER),
        frozenset(check.ids("exclude_item_ids", request.exclude_item_ids, MAX_EXCLUDED)),
        request.include_items,
    )
    check.raise_broken()
    return query


def encode_similar(found: SimilarItems) -> pb.ListSimilarItemsResponse:
    items = []
    for item_id, score in found.items:
        item = found.details.get(item_id)
        items.append(
            pb.SimilarItem(item_id=item_id, score=score, item=encode_item(item) if item is not None else None)
        )
    return pb.ListSimilarItemsResponse(items=items, model=encode_model_ref(found.model))


def encode_feedback(request: pb.RecordFeedbackRequest, now_ms: int) -> features_pb.RecordEventsRequest:
    """The events as features take them: each gets a result of its own there.

    Raises InvalidInput where not one of them can be stored. Events that nothing tells apart get an id here,
    so that a call tried again stores nothing twice.
    """
    check = Checks()
    good = [_decoded(check, event, f"events[{i}]", now_ms) for i, event in enumerate(request.events)]
    if good and not any(good):
        check.raise_broken()
    asked = retyped(request, features_pb.RecordEventsRequest)
    for event in asked.events:
        if not event.event_id and not event.time_ms:
            event.event_id = uuid.uuid4().hex
    return asked


def retyped(message: Message, cls: type[M]) -> M:
    """The same fields as another message type with the same numbers (a test holds the two together)."""
    return cls.FromString(message.SerializeToString())


def _page_size(check: Checks, request: pb.RecommendRequest | pb.ListSimilarItemsRequest) -> int:
    size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE_SIZE
    check.within("page_size", size, 1, MAX_PAGE_SIZE)
    return size


def _digest(request: pb.RecommendRequest) -> str:
    """A hash of all fields but page_token."""
    other = pb.RecommendRequest()
    other.CopyFrom(request)
    other.ClearField("page_token")
    return blake2b(other.SerializeToString(deterministic=True), digest_size=12).hexdigest()


def _decode_boosts(check: Checks, messages: Sequence[pb.Boost]) -> tuple[Boost, ...]:
    if not check.count("boosts", len(messages), MAX_BOOSTS):
        return ()
    boosts = []
    for i, message in enumerate(messages):
        field = f"boosts[{i}]"
        in_range = 0.0 < message.factor <= MAX_BOOST_FACTOR
        check.rule(
            f"{field}.factor", "" if in_range else f"must be in (0, {MAX_BOOST_FACTOR:g}]", message.factor
        )
        target = message.WhichOneof("target")
        if target == "item_id":
            check.rule(f"{field}.item_id", id_rule(message.item_id), message.item_id)
            boosts.append(Boost(message.factor, item_id=message.item_id))
        elif target == "category":
            rule = text_rule(message.category, MAX_CATEGORY_BYTES, min_bytes=1)
            check.rule(f"{field}.category", rule, message.category)
            boosts.append(Boost(message.factor, category=message.category))
        elif target == "attribute":
            name, value = message.attribute.name, message.attribute.value
            check.rule(
                f"{field}.attribute.name", text_rule(name, MAX_ATTRIBUTE_NAME_BYTES, min_bytes=1), name
            )
            check.rule(f"{field}.attribute.value", text_rule(value, MAX_ATTRIBUTE_VALUE_BYTES), value)
            boosts.append(Boost(message.factor, attribute=(name, value)))
        else:
            check.rule(field, "must name item_id, category or attribute", "none")
    return tuple(boosts)


def _decode_pins(check: Checks, request: pb.RecommendRequest) -> tuple[Pin, ...]:
    if not check.count("pins", len(request.pins), MAX_PINS):
        return ()
    excluded = set(request.exclude_item_ids)
    positions: set[int] = set()
    items: set[str] = set()
    for i, pin in enumerate(request.pins):
        field = f"pins[{i}]"
        check.rule(f"{field}.item_id", id_rule(pin.item_id), pin.item_id)
        check.within(f"{field}.position", pin.position, 0, MAX_PIN_POSITION)
        taken = "must differ from those of the pins before" if pin.position in positions else ""
        check.rule(f"{field}.position", taken, pin.position)
        twice = "must differ from those of the pins before" if pin.item_id in items else ""
        check.rule(f"{field}.item_id", twice, pin.item_id)
        barred = "must not be one of exclude_item_ids" if pin.item_id in excluded else ""
        check.rule(f"{field}.item_id", barred, pin.item_id)
        positions.add(pin.position)
        items.add(pin.item_id)
    return tuple(Pin(pin.item_id, pin.position) for pin in request.pins)


def _check_user(check: Checks, request: pb.RecommendRequest) -> None:
    """Ids that should not have come are not repeated: what is answered is also logged."""
    if not request.ephemeral:
        check.rule("user_id", id_rule(request.user_id), request.user_id)
        return
    ids = [("user_id", request.user_id)]
    ids += [(f"events[{i}].user_id", event.user_id) for i, event in enumerate(request.events)]
    for field, user_id in ids:
        check.rule(field, _NOBODY if user_id else "", f"an id of {len(user_id.encode())} bytes")


def _decode_events(check: Checks, request: pb.RecommendRequest, now_ms: int) -> tuple[Event, ...]:
    if not check.count("events", len(request.events), MAX_CARRIED_EVENTS):
        return ()
    whose = _ANYBODY if request.ephemeral else request.user_id
    decoded = [
        _decoded(check, event, f"events[{i}]", now_ms, whose)
        for i, event in enumerate(request.events)
        if not (request.ephemeral and event.user_id)  # refused already
    ]
    return tuple(event for event in decoded if event is not None)


def _decoded(
    check: Checks, message: event_pb2.Event, field: str, now_ms: int, user_id: str | None = None
) -> Event | None:
    nothing: Event | None = None
    return check.part(
        lambda: decode_event(message, field=field, now_ms=now_ms, default_user_id=user_id), nothing
    )


def _decode_weights(check: Checks, weights: Mapping[str, float]) -> dict[str, float]:
    if not check.count("task_weights", len(weights), MAX_TASK_WEIGHTS):
        return {}
    for name, weight in weights.items():
        bounded = abs(weight) <= MAX_TASK_WEIGHT
        rule = "" if bounded else f"must be -{MAX_TASK_WEIGHT:g}..{MAX_TASK_WEIGHT:g}"
        check.rule(f"task_weights[{name[:40]!r}]", rule, weight)
    if weights and not any(weights.values()):
        check.rule("task_weights", "must hold a weight that is not 0", dict(weights))
    return dict(weights)


def _encode_listed(item: ListedItem) -> pb.RecommendedItem:
    return pb.RecommendedItem(
        item_id=item.item_id,
        position=item.position,
        score=item.score,
        task_scores=item.task_values,
        source=item.source,
        reason=item.reason,
        propensity=item.propensity,
        item=encode_item(item.item) if item.item is not None else None,
    )
