"""Who asks for more than its quota hears when to come again; others notice nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from warmstart.common.v1 import event_pb2
from warmstart.gateway.v1 import catalog_service_pb2 as pb
from warmstart.gateway.v1.catalog_service_pb2_grpc import CatalogServiceStub

from shared.auth.callers import Quota
from shared.errors import QuotaExceeded
from shared.rpc.channels import call, connect
from shared.rpc.status import DETAILS_KEY
from tests.doors import GATEWAY, RPCS
from tests.integration.auth.doors import Doors, bearer, request_of
from tests.integration.auth.test_credentials import taken_up

pytestmark = pytest.mark.asyncio(loop_scope="package")

GET_ITEMS = RPCS["GetItems"]


def details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, float]:
    """ErrorInfo, and the seconds of RetryInfo."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                for message in (info, retry):
                    if detail.Is(message.DESCRIPTOR):
                        detail.Unpack(message)
    return info, retry.retry_delay.ToTimedelta().total_seconds()


async def test_what_is_over_the_quota_is_refused_with_the_time_to_come_again(both: Doors) -> None:
    """Three at once, then one each four seconds."""
    limited, free = both.keys.add(quota=Quota(0.25, 3)), both.keys.add()
    await taken_up(both)
    started = time.monotonic()
    codes = [await both.code(GET_ITEMS, request_of(GET_ITEMS), bearer(limited)) for _ in range(3)]
    assert codes == ["OK"] * 3
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await both.ask(GET_ITEMS, request_of(GET_ITEMS), limited)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    info, retry_s = details(refused.value)
    assert (info.reason, info.domain) == ("QUOTA_EXCEEDED", "warmstart")
    assert 4.0 - (time.monotonic() - started) <= retry_s <= 4.0
    assert await both.code(GET_ITEMS, request_of(GET_ITEMS), bearer(free)) == "OK"


async def test_who_waits_as_told_is_let_in(both: Doors) -> None:
    limited = both.keys.add(quota=Quota(10.0, 1))
    await taken_up(both)
    codes: Counter[str] = Counter()
    for _ in range(5):
        try:
            await both.ask(GET_ITEMS, request_of(GET_ITEMS), limited)
            codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            codes[error.code().name] += 1
            await asyncio.sleep(details(error)[1])
            await both.ask(GET_ITEMS, request_of(GET_ITEMS), limited)
            codes["OK"] += 1
    assert codes["OK"] == 5


async def test_a_thousand_events_cost_ten_lists(both: Doors) -> None:
    limited = both.keys.add(quota=Quota(0.01, 12))
    await taken_up(both)
    like = event_pb2.Event(user_id="eve", item_id="shop-1", action=event_pb2.ACTION_LIKE)
    feedback = RPCS["RecordFeedback"]
    thousand = feedback.request(domain="shop", events=[like] * 1000)
    answer = await both.ask(feedback, thousand, limited)
    assert len(answer.results) == 1000
    codes = [await both.code(GET_ITEMS, request_of(GET_ITEMS), bearer(limited)) for _ in range(3)]
    assert codes == ["OK", "OK", "RESOURCE_EXHAUSTED"]


async def test_our_clients_do_not_take_it_for_a_server_that_is_overloaded(both: Doors) -> None:
    """Each of 40 calls is sent and refused by the server: none is held back as for overload."""
    limited = both.keys.add(quota=Quota(0.001, 1))
    await taken_up(both)
    async with connect(both.targets[GATEWAY], credential=limited) as channel:
        stub = CatalogServiceStub(channel)
        request = pb.GetItemsRequest(domain="shop", item_ids=["shop-1"])
        await call(stub.GetItems, request, timeout_s=10.0)
        for _ in range(40):
            with pytest.raises(QuotaExceeded, match="1 at once, for this caller"):
                await call(stub.GetItems, request, timeout_s=10.0, idempotent=True)
