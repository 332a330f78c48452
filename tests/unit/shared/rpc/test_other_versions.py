"""What a newer caller or server says and we do not know yet is passed over, or refused by its field: an
unknown field always, an unknown value of an enum where nothing hangs on it."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message
from warmstart.common.v1 import event_pb2, model_pb2
from warmstart.features.v1 import feature_service_pb2 as pb

from services.gateway.breaker import Breaker
from services.gateway.clients import FeaturesClient
from shared.domain import Action, Event, RequestContext
from shared.errors import InvalidInput
from shared.rpc.channels import call, connect
from shared.rpc.codec import decode_event, encode_event
from shared.rpc.server import running
from tests.unit.shared.rpc.servers import TestedComponent, settings, stub

NOW_MS = 1_700_000_000_000
# Field 3000, a text: of no message of ours.
UNKNOWN_FIELD = b"\xc2\xbb\x01\x05later"
UNKNOWN_ENUM = 99


def of_a_later_version(message: Message) -> Message:
    """The same with a field that no version has so far."""
    told = type(message)()
    told.ParseFromString(message.SerializeToString() + UNKNOWN_FIELD)
    assert told.SerializeToString().endswith(UNKNOWN_FIELD)
    return told


def test_a_field_of_a_later_version_is_passed_over() -> None:
    event = Event("ann", "a", Action.LIKE, 0.0, NOW_MS, "e1")
    assert decode_event(of_a_later_version(encode_event(event)), field="event", now_ms=NOW_MS) == event


def test_an_action_of_a_later_version_is_refused_by_its_field() -> None:
    """What people did is never guessed: that event alone is rejected, and may be sent again later."""
    message = encode_event(Event("ann", "a", Action.LIKE, 0.0, NOW_MS, "e1"))
    message.action = event_pb2.Action.ValueType(UNKNOWN_ENUM)
    with pytest.raises(InvalidInput, match=r"event\.action .* got 99"):
        decode_event(message, field="event", now_ms=NOW_MS)


async def test_an_older_server_answers_a_newer_caller() -> None:
    request = of_a_later_version(pb.GetUserContextRequest(domain="default", user_id="ann"))
    async with running(TestedComponent(), settings()) as address, connect(address) as channel:
        answer = await call(stub(channel).GetUserContext, request, timeout_s=5.0)
    assert list(answer.seen_item_ids) == ["ann"]


async def test_an_older_gateway_reads_what_a_newer_feature_service_answers() -> None:
    """Fields that it does not know, and statuses too: only what is said to be rejected is a refusal."""

    async def answer(request: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        context = of_a_later_version(model_pb2.UserContext(user_id=request.user_id))
        told = of_a_later_version(pb.GetUserContextResponse(context=context, seen_item_ids=["a"]))
        assert isinstance(told, pb.GetUserContextResponse)
        return told

    class Newer(TestedComponent):
        def register(self, server: grpc.aio.Server) -> list[str]:
            names = list(super().register(server))
            handler = grpc.unary_unary_rpc_method_handler(
                record,
                request_deserializer=pb.RecordEventsRequest.FromString,
                response_serializer=pb.RecordEventsResponse.SerializeToString,
            )
            methods = {"RecordEvents": handler}
            server.add_registered_method_handlers(names[0], methods)
            return names

    async def record(request: pb.RecordEventsRequest, _: object) -> pb.RecordEventsResponse:
        later = pb.EventStatus.ValueType(UNKNOWN_ENUM)
        rejected = pb.EVENT_STATUS_REJECTED
        return pb.RecordEventsResponse(
            results=[
                pb.EventResult(event_id="e1", status=later),
                pb.EventResult(event_id="e2", status=rejected, reason="so"),
            ]
        )

    async with running(Newer(answer), settings()) as address, connect(address) as channel:
        client = FeaturesClient(stub(channel), Breaker("features", failures=2, open_s=1.0), 5.0, 5.0)
        person = await client.person("default", "ann", [], RequestContext("", "", NOW_MS))
        assert (person.context.user_id, person.seen) == ("ann", frozenset({"a"}))
        events = [Event("ann", i, Action.LIKE, 0.0, NOW_MS, f"e{n}") for n, i in enumerate("ab", 1)]
        assert [r.event_id for r in await client.record("default", events)] == ["e2"]
