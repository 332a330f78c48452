"""Too many, too long, too large: each RPC says which limit was broken, and does nothing."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from warmstart.common.v1 import event_pb2, item_pb2, user_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.training.v1 import training_service_pb2 as training_pb

from shared import limits
from tests.doors import RPCS
from tests.integration.auth.doors import Doors, bearer, request_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

LONG = "x" * (limits.MAX_ID_BYTES + 1)
INVALID, TOO_LARGE = "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"
EVENT = event_pb2.Event(user_id="ann", item_id="shop-1", action=event_pb2.ACTION_LIKE)


LONG_EVENT = event_pb2.Event(user_id=LONG)
BOOST, RELATION = pb.Boost(item_id="i", factor=2), user_pb2.Relation()


def ids(count: int) -> list[str]:
    return [f"i{n}" for n in range(count)]


def settings(size: int) -> training_pb.TrainingOptions:
    options = training_pb.TrainingOptions()
    options.adapter_settings.update({"x": "y" * size})
    return options


# RPC, what is too much of it, status, what the refusal names.
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("Recommend", {"user_id": LONG}, INVALID, "user_id must be 1..256 bytes"),
    ("Recommend", {"candidate_item_ids": ids(1001)}, TOO_LARGE, "candidate_item_ids must hold at most 1000"),
    ("Recommend", {"exclude_item_ids": ids(5001)}, TOO_LARGE, "exclude_item_ids must hold at most 5000"),
    ("Recommend", {"exclude_item_ids": [LONG]}, INVALID, "exclude_item_ids[0] must be 1..256 bytes"),
    ("Recommend", {"events": [EVENT] * 501}, TOO_LARGE, "events must hold at most 500"),
    ("Recommend", {"boosts": [BOOST] * 101}, TOO_LARGE, "boosts must hold at most 100"),
    ("Recommend", {"pins": [pb.Pin(item_id="i")] * 51}, TOO_LARGE, "pins must hold at most 50"),
    ("Recommend", {"task_weights": dict.fromkeys(ids(65), 1.0)}, TOO_LARGE, "task_weights must hold at most"),
    ("Recommend", {"page_size": 501}, INVALID, "page_size must be 1..500"),
    ("Recommend", {"page_token": "x" * 65537}, INVALID, "page_token must be at most 65536 bytes"),
    ("Recommend", {"experiment_key": "x" * 129}, INVALID, "experiment_key must be at most 128 bytes"),
    ("Recommend", {"context": {"device": "x" * 65}}, INVALID, "context.device must be at most 64 bytes"),
    ("Recommend", {"filter": {"any_categories": ["c"] * 65}}, TOO_LARGE, "filter.any_categories must hold"),
    ("RecordFeedback", {"events": [EVENT] * 1001}, TOO_LARGE, "events must hold at most 1000"),
    ("RecordFeedback", {"events": [LONG_EVENT]}, INVALID, "events[0].user_id must be 1..256 bytes"),
    ("ListSimilarItems", {"item_ids": ids(101)}, TOO_LARGE, "item_ids must hold at most 100"),
    ("ListSimilarItems", {"item_ids": [LONG]}, INVALID, "item_ids[0] must be 1..256 bytes"),
    ("ListSimilarItems", {"page_size": 501}, INVALID, "page_size must be 1..500"),
    ("UpsertItems", {"items": [item_pb2.Item()] * 1001}, TOO_LARGE, "items must hold at most 1000"),
    ("GetItems", {"item_ids": ids(1001)}, TOO_LARGE, "item_ids must hold at most 1000"),
    ("GetItems", {"item_ids": [LONG]}, INVALID, "item_ids[0] must be 1..256 bytes"),
    ("ListItems", {"page_size": 1001}, INVALID, "page_size must be 1..1000"),
    ("ListItems", {"page_token": "x" * 100_000}, INVALID, "page_token must be"),
    ("DeleteItems", {"item_ids": ids(1001)}, TOO_LARGE, "item_ids must hold at most 1000"),
    ("DeleteItems", {"item_ids": [LONG]}, INVALID, "item_ids[0] must be 1..256 bytes"),
    ("UpsertUsers", {"users": [user_pb2.User()] * 1001}, TOO_LARGE, "users must hold at most 1000"),
    ("UpsertRelations", {"relations": [RELATION] * 5001}, TOO_LARGE, "relations must hold at most 5000"),
    ("MergeUsers", {"from_user_id": LONG}, INVALID, "from_user_id must be 1..256 bytes"),
    ("MergeUsers", {"into_user_id": LONG}, INVALID, "into_user_id must be 1..256 bytes"),
    ("ExportUser", {"user_id": LONG}, INVALID, "user_id must be 1..256 bytes"),
    ("DeleteUser", {"user_id": LONG}, INVALID, "user_id must be 1..256 bytes"),
    ("StartTraining", {"request_key": "x" * 129}, INVALID, "request_key must be at most 128 bytes"),
    ("StartTraining", {"options": settings(20_000)}, INVALID, "options.adapter_settings must be at most"),
    ("StartTraining", {"options": None, "resume": LONG}, INVALID, "resume must be 1..256 bytes"),
    ("WatchTraining", {"training_id": LONG}, INVALID, "training_id must be 1..256 bytes"),
    ("ListTrainings", {"page_size": 501}, INVALID, "page_size must be 1..500"),
    ("ListTrainings", {"page_token": LONG}, INVALID, "page_token must be 1..256 bytes"),
    ("StopTraining", {"training_id": LONG}, INVALID, "training_id must be 1..256 bytes"),
    ("ListModels", {"page_size": 501}, INVALID, "page_size must be 1..500"),
    ("ListModels", {"page_token": LONG}, INVALID, "page_token must be 1..256 bytes"),
    ("PromoteModel", {"version": LONG}, INVALID, "version must be 1..256 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("rpc", "fields", "code", "named"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES])
async def test_too_much_is_refused(
    both: Doors, rpc: str, fields: dict[str, Any], code: str, named: str
) -> None:
    good = request_of(RPCS[rpc])
    for name in fields:
        good.ClearField(name)
    good.MergeFrom(RPCS[rpc].request(**fields))
    refused, said = await refusal(both, rpc, good)
    assert refused == code, said
    assert named in said


async def refusal(doors: Doors, rpc: str, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await doors.ask(rpc, request, doors.operator)
    return refused.value.code().name, refused.value.details() or ""


async def test_every_rpc_has_a_limit_that_is_tried() -> None:
    """RollBackModel takes a domain alone."""
    assert set(RPCS) - {case[0] for case in CASES} == {"RollBackModel"}


async def test_a_domain_that_is_far_too_long_is_refused_on_every_rpc(both: Doors) -> None:
    for rpc in RPCS.values():
        request = request_of(rpc)
        request.domain = "x" * 100_000
        code, said = await refusal(both, rpc.name, request)
        assert code == INVALID
        assert len(said) < 300


async def test_a_message_that_is_too_large_is_refused_on_every_rpc(both: Doors) -> None:
    for rpc in RPCS.values():
        request = request_of(rpc)
        request.domain = "x" * (4 << 20)
        code, said = await refusal(both, rpc.name, request)
        assert code == TOO_LARGE
        assert "request must be at most 4194304 bytes" in said


async def test_a_bad_item_or_person_of_a_batch_is_rejected_alone(both: Doors) -> None:
    """The longest texts of the contract, and one byte more."""
    item = item_pb2.Item(item_id="long", title="x" * 1025)
    items = await both.ask(
        "UpsertItems", RPCS["UpsertItems"].request(domain="shop", items=[item]), both.operator
    )
    assert "items[0].title must be at most 1024 bytes" in items.results[0].reason
    user = user_pb2.User(user_id=LONG)
    users = await both.ask(
        "UpsertUsers", RPCS["UpsertUsers"].request(domain="shop", users=[user]), both.operator
    )
    assert "users[0].user_id must be 1..256 bytes" in users.results[0].reason


async def test_metadata_that_is_too_large_is_refused_by_grpc(both: Doors) -> None:
    rpc = RPCS["ListModels"]
    code = await both.code(rpc, request_of(rpc), (*bearer(both.operator), ("x-more", "y" * 100_000)))
    assert code == "RESOURCE_EXHAUSTED"
