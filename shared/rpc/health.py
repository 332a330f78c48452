"""The health protocol (grpc.health.v1): saying it and waiting for it."""

from __future__ import annotations

import asyncio
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.errors import Unavailable
from shared.rpc.channels import open_channel
from shared.tls import TlsPem

_POLL_S = 0.05
_CHECK_TIMEOUT_S = 1.0


async def check(
    target: str, service: str = "", *, pem: TlsPem | None = None, timeout_s: float = _CHECK_TIMEOUT_S
) -> str:
    """The state in a word: SERVING, NOT_SERVING, or the status code of a failed check.

    target: "host:port"; service: "" = the server itself; pem: None = without TLS.
    """
    # Its own subchannel pool: a check must see the server as it is now, not a connection's backoff.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with open_channel(target, "", pem, options) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def wait_until_serving(target: str, timeout_s: float, *, pem: TlsPem | None = None) -> None:
    """Returns once `target` says SERVING. Raises Unavailable with the last state seen after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        state = await check(target, pem=pem, timeout_s=max(0.1, min(_CHECK_TIMEOUT_S, left_s)))
        if state == "SERVING":
            return
        if time.monotonic() >= deadline:
            raise Unavailable(f"{target} was not SERVING within {timeout_s:g} s; last state: {state}")
        await asyncio.sleep(_POLL_S)
