"""Every rule of the public door, broken one by one."""

from __future__ import annotations

from typing import Any

import pytest
from warmstart.common.v1 import event_pb2, item_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1 import user_service_pb2 as user_pb

from services.gateway.codec import decode_list_query, decode_similar_query, encode_feedback
from shared.errors import InvalidInput, TooLarge

NOW_MS = 1_800_000_000_000
NAN = float("nan")
LIKE = event_pb2.ACTION_LIKE


def request(**fields: Any) -> pb.RecommendRequest:
    return pb.RecommendRequest(**({"user_id": "ann"} | fields))


def decode(message: pb.RecommendRequest) -> Any:
    return decode_list_query(message, ["default", "news"], NOW_MS)


def an_event(**fields: Any) -> event_pb2.Event:
    return event_pb2.Event(**({"item_id": "i", "action": LIKE} | fields))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"domain": "nowhere"}, "domain must be one of default, news, got 'nowhere'"),
    ({"user_id": ""}, "user_id must be 1..256 bytes, got ''"),
    ({"ephemeral": True}, "user_id must be empty where the list is ephemeral"),
    (
        {"user_id": "", "ephemeral": True, "events": [an_event(user_id="ann")]},
        "events[0].user_id must be empty where the list is ephemeral",
    ),
    ({"user_id": "a\nb"}, "user_id must not hold control characters"),
    ({"page_size": 0}, "page_size must be 1..500, got 0"),
    ({"page_size": -1}, "page_size must be 1..500, got -1"),
    ({"page_size": 10**6}, "page_size must be 1..500, got 1000000"),
    ({"candidate_item_ids": ["a", ""]}, "candidate_item_ids[1] must be 1..256 bytes, got ''"),
    ({"exclude_item_ids": ["x" * 257]}, "exclude_item_ids[0] must be 1..256 bytes"),
    ({"diversity": NAN}, "diversity must be 0..1, got nan"),
    ({"diversity": 1.5}, "diversity must be 0..1, got 1.5"),
    ({"exploration_rate": NAN}, "exploration_rate must be 0..0.5, got nan"),
    ({"exploration_rate": 0.75}, "exploration_rate must be 0..0.5, got 0.75"),
    ({"experiment_key": "x" * 129}, "experiment_key must be at most 128 bytes"),
    ({"task_weights": {"next": NAN}}, "task_weights['next'] must be -1e+06..1e+06, got nan"),
    ({"task_weights": {"next": float("inf")}}, "task_weights['next'] must be -1e+06..1e+06, got inf"),
    ({"task_weights": {"next": 0.0}}, "task_weights must hold a weight that is not 0"),
    ({"boosts": [pb.Boost(item_id="a", factor=NAN)]}, "boosts[0].factor must be in (0, 1000], got nan"),
    ({"boosts": [pb.Boost(item_id="a")]}, "boosts[0].factor must be in (0, 1000], got 0.0"),
    ({"boosts": [pb.Boost(factor=2.0)]}, "boosts[0] must name item_id, category or attribute"),
    ({"boosts": [pb.Boost(category="", factor=2.0)]}, "boosts[0].category must be 1..128 bytes"),
    (
        {"boosts": [pb.Boost(attribute=pb.AttributeTarget(value="x"), factor=2.0)]},
        "boosts[0].attribute.name must be 1..128 bytes",
    ),
    ({"pins": [pb.Pin(item_id="a", position=-1)]}, "pins[0].position must be 0..9999, got -1"),
    ({"pins": [pb.Pin(position=1)]}, "pins[0].item_id must be 1..256 bytes"),
    (
        {"pins": [pb.Pin(item_id="a", position=1), pb.Pin(item_id="b", position=1)]},
        "pins[1].position must differ from those of the pins before, got 1",
    ),
    (
        {"pins": [pb.Pin(item_id="a", position=1), pb.Pin(item_id="a", position=2)]},
        "pins[1].item_id must differ from those of the pins before, got 'a'",
    ),
    (
        {"pins": [pb.Pin(item_id="a", position=1)], "exclude_item_ids": ["a"]},
        "pins[0].item_id must not be one of exclude_item_ids, got 'a'",
    ),
    ({"context": user_pb2.RequestContext(device="x" * 65)}, "context.device must be at most 64 bytes"),
    ({"context": user_pb2.RequestContext(time_ms=-1)}, "context.time_ms must be milliseconds since 1970"),
    ({"filter": item_pb2.ItemFilter(any_categories=[""])}, "filter.any_categories[0] must be 1..128 bytes"),
    (
        {"filter": item_pb2.ItemFilter(attributes=[item_pb2.AttributeCondition(name="x")])},
        "filter.attributes[0].values must hold 1..64, got 0",
    ),
    ({"events": [an_event(value=NAN)]}, "events[0].value must be finite"),
    ({"events": [an_event(), an_event(action=99)]}, "events[1].action must be one of 1 (IMPRESSION)"),
    ({"events": [an_event(action=0)]}, "events[0].action must be one of 1 (IMPRESSION)"),
    ({"events": [an_event(item_id="")]}, "events[0].item_id must be 1..256 bytes"),
    ({"events": [an_event(user_id="bob")]}, "events[0].user_id must be empty or the request's user_id"),
    ({"events": [an_event(time_ms=NOW_MS + 10**9)]}, "events[0].time_ms must be 0 (now) or milliseconds"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[m for _, m in BAD])
def test_a_broken_rule_names_field_rule_and_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        decode(request(**fields))
    assert str(raised.value).startswith(message)
    assert raised.value.code == "INVALID_ARGUMENT"
    assert message.startswith(raised.value.violations[0].field)


@pytest.mark.parametrize("name", ["any_categories", "all_categories", "no_categories"])
def test_too_many_categories_of_a_filter_are_too_large(name: str) -> None:
    with pytest.raises(TooLarge) as raised:
        decode(request(filter=item_pb2.ItemFilter(**{name: ["a"] * 1000})))
    assert str(raised.value).startswith(f"filter.{name} must hold at most")


@pytest.mark.parametrize(
    ("field", "values", "limit"),
    [
        ("candidate_item_ids", ["i"] * 1001, 1000),
        ("exclude_item_ids", ["i"] * 5001, 5000),
        ("boosts", [pb.Boost(item_id="a", factor=2.0)] * 101, 100),
        ("pins", [pb.Pin(item_id="a")] * 51, 50),
        ("events", [an_event()] * 501, 500),
        ("task_weights", {f"t{n}": 1.0 for n in range(65)}, 64),
    ],
)
def test_too_many_are_too_large(field: str, values: Any, limit: int) -> None:
    with pytest.raises(TooLarge, match=f"{field} must hold at most {limit}, got {limit + 1}"):
        decode(request(**{field: values}))


def test_all_broken_rules_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as raised:
        decode(request(user_id="", page_size=0, diversity=2.0, exclude_item_ids=["i"] * 5001))
    fields = {"user_id", "page_size", "diversity", "exclude_item_ids"}
    assert {v.field for v in raised.value.violations} == fields
    assert type(raised.value) is InvalidInput


def test_what_is_unset_is_the_server_s_choice() -> None:
    query = decode(request())
    assert (query.domain, query.page_size) == ("default", 10)
    assert query.diversity is None
    assert query.exploration_rate is None
    assert query.context.time_ms == NOW_MS


def test_ids_count_once_in_their_order() -> None:
    assert decode(request(candidate_item_ids=["b", "a", "b"])).candidate_item_ids == ("b", "a")


def test_the_digest_stands_for_all_fields_but_the_token() -> None:
    digest = decode(request(page_size=5)).digest
    assert decode(request(page_size=5, page_token="t")).digest == digest
    assert decode(request(page_size=6)).digest != digest
    assert decode(request(page_size=5, include_seen=True)).digest != digest
    weights = {"a": 1.0, "b": 2.0}
    backwards = dict(reversed(weights.items()))
    assert decode(request(task_weights=weights)).digest == decode(request(task_weights=backwards)).digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "item_ids must hold at least 1, got 0"),
        ({"item_ids": ["a"], "page_size": 0}, "page_size must be 1..500, got 0"),
        ({"item_ids": [""]}, "item_ids[0] must be 1..256 bytes"),
        ({"item_ids": ["a"] * 101}, "item_ids must hold at most 100, got 101"),
    ],
)
def test_similar_items_have_rules_too(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        decode_similar_query(pb.ListSimilarItemsRequest(**fields), ["default"])
    assert str(raised.value).startswith(message)


def test_feedback_of_which_nothing_can_be_stored_is_refused_with_its_fields() -> None:
    bad = pb.RecordFeedbackRequest(events=[an_event(user_id="ann", value=NAN), an_event(user_id="")])
    with pytest.raises(InvalidInput) as raised:
        encode_feedback(bad, NOW_MS)
    assert [v.field for v in raised.value.violations] == ["events[0].value", "events[1].user_id"]


def test_good_feedback_beside_bad_goes_on_and_gets_an_id_where_nothing_else_tells_it_apart() -> None:
    good = an_event(user_id="ann")
    asked = encode_feedback(
        pb.RecordFeedbackRequest(
            events=[good, good, an_event(user_id="ann", value=NAN), an_event(user_id="ann", time_ms=NOW_MS)]
        ),
        NOW_MS,
    )
    ids = [e.event_id for e in asked.events]
    assert len({ids[0], ids[1], ""}) == 3
    assert ids[3] == ""  # its time tells it apart: features derive the id


PAIRS = [
    (pb.RecordFeedbackRequest, features_pb.RecordEventsRequest),
    (features_pb.RecordEventsResponse, pb.RecordFeedbackResponse),
    *(
        pair
        for door, names in (
            (catalog_pb, ("UpsertItems", "GetItems", "ListItems", "DeleteItems")),
            (user_pb, ("UpsertUsers", "UpsertRelations", "MergeUsers", "ExportUser", "DeleteUser")),
        )
        for name in names
        for pair in (
            (getattr(door, f"{name}Request"), getattr(features_pb, f"{name}Request")),
            (getattr(features_pb, f"{name}Response"), getattr(door, f"{name}Response")),
        )
    ),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda cls: cls.__name__)
def test_messages_that_are_passed_through_have_the_same_fields(one: Any, other: Any) -> None:
    assert shape(one.DESCRIPTOR) == shape(other.DESCRIPTOR)


def shape(descriptor: Any) -> list[tuple[Any, ...]]:
    """Number, name, type and what is inside, of every field."""
    return [
        (
            f.number,
            f.name,
            f.type,
            f.is_repeated,
            shape(f.message_type) if f.message_type is not None else None,
            [(v.number, v.name.split("STATUS_")[-1]) for v in f.enum_type.values] if f.enum_type else None,
        )
        for f in descriptor.fields
    ]


def test_an_id_that_should_not_have_come_is_not_repeated() -> None:
    """Answers to bad input are logged."""
    message = request(
        ephemeral=True, user_id="ann-the-traveller", events=[an_event(user_id="ann-the-traveller")]
    )
    with pytest.raises(InvalidInput) as raised:
        decode(message)
    assert [v.field for v in raised.value.violations] == ["user_id", "events[0].user_id"]
    assert "traveller" not in str(raised.value)


def test_an_ephemeral_list_needs_nobody() -> None:
    query = decode(request(user_id="", ephemeral=True, events=[an_event()]))
    assert (query.user_id, query.ephemeral, [e.item_id for e in query.events]) == ("", True, ["i"])
