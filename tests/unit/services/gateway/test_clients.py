"""What the gateway's clients tell their breakers, of a real server that takes its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1 import feature_service_pb2_grpc as rpc

from services.gateway.breaker import Breaker
from services.gateway.clients import FeaturesClient
from shared.errors import DeadlinePassed
from shared.rpc.channels import connect
from shared.rpc.server import running
from shared.rpc.serving import ServedCall, begin
from shared.settings import ServerSettings


class _Slow(rpc.FeatureServiceServicer):
    async def RecordEvents(self, request: Any, context: Any) -> Any:
        await asyncio.Event().wait()


class _Component:
    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        rpc.add_FeatureServiceServicer_to_server(_Slow(), server)
        return ["warmstart.features.v1.FeatureService"]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@pytest.mark.parametrize(("left_s", "away"), [(0.05, False), (0.3, True)])
async def test_feedback_of_callers_in_a_hurry_takes_features_from_nobody(left_s: float, away: bool) -> None:
    """A quarter of a second is what a call must have been given to say that features are slow."""
    async with running(_Component(), ServerSettings(grace_s=0.0)) as target, connect(target) as channel:
        await channel.channel_ready()
        breaker = Breaker("features", failures=2, open_s=60.0, patience_s=0.25)
        client = FeaturesClient(rpc.FeatureServiceStub(channel), breaker, 1.0, 60.0)
        for write in (
            lambda: client.record("shop", ()),
            lambda: client.forward("RecordEvents", pb.RecordEventsRequest(), pb.RecordEventsResponse),
        ):
            begin(ServedCall("hurried", time.monotonic() + left_s))
            with pytest.raises(DeadlinePassed):
                await write()
    assert breaker.is_open is away
