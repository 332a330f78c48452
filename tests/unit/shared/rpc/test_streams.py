"""So many streams at once, of all callers and of each; what ends makes room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.auth.callers import Caller, Scope
from shared.errors import Overloaded
from shared.rpc.channels import connect, stream
from shared.rpc.server import running
from shared.rpc.streams import OpenStreams
from tests.unit.shared.rpc.servers import TestedComponent, settings, stub


async def nothing() -> AsyncIterator[Any]:
    for answer in ():
        yield answer


def caller(name: str) -> Caller:
    return Caller(name, name, frozenset(Scope), frozenset({"shop"}))


async def test_a_caller_has_so_many_and_others_have_theirs() -> None:
    streams = OpenStreams("shop", most=10, most_a_caller=2)
    with (
        streams.opened(nothing(), caller("ann")),
        streams.opened(nothing(), caller("ann")),
        streams.opened(nothing(), caller("bob")),
    ):
        with pytest.raises(Overloaded, match="streams of one caller must be at most 2, got one more"):
            with streams.opened(nothing(), caller("ann")):
                pass
    with streams.opened(nothing(), caller("ann")):
        pass


async def test_a_server_has_so_many_of_all() -> None:
    streams = OpenStreams("shop", most=2)
    with streams.opened(nothing(), None), streams.opened(nothing(), None):
        with pytest.raises(Overloaded, match="shop has 2 streams open, its limit"):
            with streams.opened(nothing(), None):
                pass


async def test_a_stream_over_the_limit_is_refused_and_room_is_made_by_one_that_ends() -> None:
    async def watch(_: pb.WatchItemsRequest) -> AsyncIterator[pb.WatchItemsResponse]:
        yield pb.WatchItemsResponse(cursor="1")
        await asyncio.Event().wait()

    component = TestedComponent(watch=watch)
    async with running(component, settings(max_streams=2)) as address, connect(address) as channel:
        opened = [stream(stub(channel).WatchItems, pb.WatchItemsRequest()) for _ in range(3)]
        assert [(await anext(one)).cursor for one in opened[:2]] == ["1", "1"]
        with pytest.raises(Overloaded, match="server has 2 streams open, its limit"):
            await anext(opened[2])
        await opened[0].aclose()
        async with asyncio.timeout(10.0):
            while True:
                again = stream(stub(channel).WatchItems, pb.WatchItemsRequest())
                try:
                    assert (await anext(again)).cursor == "1"
                    break
                except Overloaded:  # the server has not heard yet that one has ended
                    await asyncio.sleep(0.01)
        for one in (opened[1], again):
            await one.aclose()
