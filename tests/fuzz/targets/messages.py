"""Requests → domain values, by the codecs of all services; what was accepted comes back the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from warmstart.adaptation.v1 import adaptation_service_pb2 as adaptation_pb
from warmstart.common.v1 import event_pb2, item_pb2, model_pb2, tensor_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as gateway_pb
from warmstart.scoring.v1 import scoring_service_pb2 as scoring_pb
from warmstart.training.v1 import training_service_pb2 as training_pb

from services.adaptation import codec as adaptation
from services.features import codec as features
from services.gateway import codec as gateway
from services.scoring import codec as scoring
from services.training.service import codec as training
from services.training.service.training import Places, State, Training
from shared.errors import InvalidInput
from shared.rpc import codec
from tests.artifacts import CONTENT_DIM
from tests.fuzz.mutation import Mutator
from tests.fuzz.seeds import DOMAIN, _seeds, known_names
from tests.fuzz.targets.base import NOW_MS, Target, Wrong, chosen

_DOMAINS = (DOMAIN, "bare")
_OUTPUT_DIM = 17
_PLACES = Places("/registry", "features:20052", "")


def same(a: Any, b: Any) -> bool:
    """Equal, arrays and values that hold them too."""
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _back(decode: Callable[[Any], Any], encode: Callable[[Any], Message]) -> Callable[[Message], None]:
    """decode; what it lets through encodes, and decodes to the same."""

    def check(message: Message) -> None:
        value = decode(message)
        again = decode(type(message).FromString(encode(value).SerializeToString()))
        if not same(value, again):
            raise Wrong(f"decoded {value!r}, and after encoding {again!r}")

    return check


def _start(message: training_pb.StartTrainingRequest) -> None:
    """The settings are noted as JSON and shown again as options."""
    training.decode_request_key(message)
    if training.decode_resume(message):
        return
    settings = training.decode_start(message, DOMAIN, _PLACES)
    shown = Training(
        training_id="1",
        run_directory="/runs/1",
        settings=settings,
        state=State.RUNNING,
        created_ms=1,
        started_ms=1,
    )
    again = training_pb.StartTrainingRequest(options=training.encode_training(shown).options)
    if training.decode_start(again, DOMAIN, _PLACES) != settings:
        raise Wrong(f"asked for {settings}, shown as {again}")


def _scores(message: Message) -> None:
    version: Any = SimpleNamespace(output_dim=_OUTPUT_DIM)
    decode = (
        scoring.decode_score if isinstance(message, scoring_pb.ScoreItemsRequest) else scoring.decode_retrieve
    )
    job = decode(message, version)
    if isinstance(message, scoring_pb.ScoreItemsRequest) and job.queries.shape[1] != _OUTPUT_DIM:
        raise Wrong(f"queries of width {job.queries.shape}")


def _batch(decode: Callable[[Any], tuple[list[Any], list[Any]]], field: str) -> Callable[[Message], None]:
    """Good ones and refusals together are as many as were given."""

    def check(message: Message) -> None:
        good, results = decode(getattr(message, field))
        given = len(getattr(message, field))
        if len(results) != given or len(good) != sum(result is None for result in results):
            raise Wrong(f"{len(good)} good and {len(results)} results of {given}")

    return check


_CONTEXT = lambda m: codec.decode_context(m, field="context", content_dim=CONTENT_DIM)  # noqa: E731
_EVENT = lambda m: codec.decode_event(m, field="event", now_ms=NOW_MS)  # noqa: E731
_ADAPTED = lambda m: codec.decode_adapted_user(m, field="user")  # noqa: E731
_SHARED: tuple[tuple[type[Message], Callable[[Any], object]], ...] = (
    (event_pb2.Event, _back(_EVENT, codec.encode_event)),
    (item_pb2.Item, _back(lambda m: codec.decode_item(m, field="item"), codec.encode_item)),
    (item_pb2.ItemFilter, _back(lambda m: codec.decode_filter(m, field="filter"), codec.encode_filter)),
    (user_pb2.User, _back(lambda m: codec.decode_user(m, field="user"), codec.encode_user)),
    (user_pb2.Relation, _back(lambda m: codec.decode_relation(m, field="relation"), codec.encode_relation)),
    (event_pb2.History, _back(lambda m: codec.decode_history(m, field="history"), codec.encode_history)),
    (model_pb2.UserContext, _back(_CONTEXT, codec.encode_context)),
    (model_pb2.AdaptedUser, _back(_ADAPTED, codec.encode_adapted_user)),
    (model_pb2.HeldModel, _back(lambda m: codec.decode_held_model(m, field="held"), codec.encode_held_model)),
    (model_pb2.Trail, _back(lambda m: codec.decode_trail(m, field="trail"), codec.encode_trail)),
    (tensor_pb2.Tensor, _back(lambda m: codec.decode_tensor(m, field="tensor"), codec.encode_tensor)),
)  # fmt: skip
_SERVICES: tuple[tuple[type[Message], Callable[[Any], object]], ...] = (
    (gateway_pb.RecommendRequest, lambda m: gateway.decode_list_query(m, _DOMAINS, NOW_MS)),
    (gateway_pb.ListSimilarItemsRequest, lambda m: gateway.decode_similar_query(m, _DOMAINS)),
    (gateway_pb.RecordFeedbackRequest, lambda m: gateway.encode_feedback(m, NOW_MS)),
    (features_pb.RecordEventsRequest, _batch(lambda m: features.decode_events(m, now_ms=NOW_MS), "events")),
    (features_pb.UpsertItemsRequest, _batch(lambda m: features.decode_items(m, now_ms=NOW_MS), "items")),
    (features_pb.UpsertUsersRequest, _batch(features.decode_users, "users")),
    (features_pb.UpsertRelationsRequest, _batch(features.decode_relations, "relations")),
    (adaptation_pb.AdaptUserRequest, lambda m: adaptation.decode_one(m, content_dim=CONTENT_DIM)),
    (adaptation_pb.BatchAdaptUsersRequest, lambda m: adaptation.decode_many(m, content_dim=CONTENT_DIM)),
    (scoring_pb.RetrieveItemsRequest, _scores),
    (scoring_pb.ScoreItemsRequest, _scores),
    (training_pb.StartTrainingRequest, _start),
)


def _reader(readers: Sequence[tuple[type[Message], Callable[[Any], object]]]) -> Callable[[bytes], object]:
    def read(case: bytes) -> object:
        number, data = chosen(case, len(readers))
        kind, decode = readers[number]
        try:
            message = kind.FromString(data)
        except DecodeError as error:  # as the servers' interceptor refuses it
            raise InvalidInput.of("request", f"must be a {kind.DESCRIPTOR.name}", str(error)) from None
        return decode(message)

    return read


def _beginnings(
    readers: Sequence[tuple[type[Message], Callable[[Any], object]]],
) -> Callable[[], list[bytes]]:
    """Seeds of the requests themselves, and what they hold of the messages that they share."""

    def seeds() -> list[bytes]:
        found = _parts()
        return [
            bytes((number,)) + message.SerializeToString()
            for number, (kind, _) in enumerate(readers)
            for message in found.get(kind.DESCRIPTOR.full_name, [kind()])[:4]
        ]

    return seeds


@cache
def _parts() -> dict[str, list[Message]]:
    """Every message that a seed is or holds, by its type."""
    found: dict[str, list[Message]] = {}

    def walk(message: Message) -> None:
        found.setdefault(message.DESCRIPTOR.full_name, []).append(message)
        for field, value in message.ListFields():
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for inner in value if field.is_repeated else (value,):
                    walk(inner)

    for messages in _seeds(_OUTPUT_DIM).values():
        for message in messages:
            walk(message)
    queries = found["warmstart.common.v1.TaskQuery"][:2]
    adapted = model_pb2.AdaptedUser(queries=queries, shots=2, trail=found["warmstart.common.v1.Trail"][0])
    adapted.model.domain, adapted.model.version = DOMAIN, "1"
    adapted.uncertainty.factor.CopyFrom(codec.encode_tensor(np.ones((2, 3), np.float32)))
    walk(adapted)
    held = model_pb2.HeldModel(model=adapted.model, num_items=3)
    held.tasks.add(name="next", link=2, offset=0.5, default_weight=1.0).calibration.add(shots=1, scale=2.0)
    walk(held)
    return found


def _mutation(
    readers: Sequence[tuple[type[Message], Callable[[Any], object]]],
) -> Callable[[bytes, Random], bytes]:
    known = known_names()

    def mutate(case: bytes, rng: Random) -> bytes:
        number, data = chosen(case, len(readers))
        kind = readers[number][0]
        try:
            message = kind.FromString(data)
        except DecodeError:
            message = rng.choice(_parts().get(kind.DESCRIPTOR.full_name, [kind()]))
        return bytes((number,)) + Mutator(rng, known).case([message])

    return mutate


TARGETS = tuple(
    Target(name, _reader(readers), _beginnings(readers), _mutation(readers), max_bytes=16_000)
    for name, readers in (("shared-codec", _SHARED), ("service-codecs", _SERVICES))
)
