"""Bytes as they are, sent as a request; whatever comes back, as an `Answer`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from shared.errors import RETRY_KEY
from shared.rpc.status import DETAILS_KEY
from tests.fuzz.oracle import OK, Answer, decoded, explained
from tests.fuzz.schema import Rpc

DEADLINE_S = 20.0
# A watch says nothing for as long as nothing happens; of bytes that are no request a refusal is waited for.
_SILENCE_S = 0.2
_MAX_RESPONSES = 8
_ATTEMPTS = 20
_AGAIN_S = 0.05
_LATER = (grpc.StatusCode.RESOURCE_EXHAUSTED.name, grpc.StatusCode.ABORTED.name)


async def ask(channel: grpc.aio.Channel, rpc: Rpc, request: bytes) -> Answer:
    """One call. One that the server has no time for, or that others' changes of the same people keep from its
    end, is sent again, as its caller would.
    """
    for _ in range(_ATTEMPTS):
        answer = await _ask_once(channel, rpc, request)
        if not _is_busy(answer):
            break
        await asyncio.sleep(_AGAIN_S)
    return answer


async def _ask_once(channel: grpc.aio.Channel, rpc: Rpc, request: bytes) -> Answer:
    began = time.monotonic()
    try:
        responses = await (_streamed if rpc.streams else _single)(channel, rpc, request)
        return Answer(OK, time.monotonic() - began, responses)
    except grpc.aio.AioRpcError as error:
        details = next((v for k, v in error.trailing_metadata() or () if k == DETAILS_KEY), b"")
        return Answer(error.code().name, time.monotonic() - began, (), error.details() or "", details)


async def _single(channel: grpc.aio.Channel, rpc: Rpc, request: bytes) -> tuple[bytes, ...]:
    return (await channel.unary_unary(rpc.path)(request, timeout=DEADLINE_S),)


async def _streamed(channel: grpc.aio.Channel, rpc: Rpc, request: bytes) -> tuple[bytes, ...]:
    """The first responses; of a watch, as many as come without a pause."""
    call: Any = channel.unary_stream(rpc.path)(request, timeout=DEADLINE_S)
    may_be_silent = rpc.method.startswith("Watch") and decoded(rpc.request, request) is not None
    found: list[bytes] = []
    try:
        while len(found) < _MAX_RESPONSES:
            reading = asyncio.ensure_future(call.read())
            await asyncio.wait((reading,), timeout=_SILENCE_S if may_be_silent else None)
            if not reading.done():
                call.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                break
            response = reading.result()
            if response is grpc.aio.EOF:
                break
            found.append(response)
    finally:
        call.cancel()
    return tuple(found)


def _is_busy(answer: Answer) -> bool:
    if answer.code not in _LATER or not answer.details:
        return False
    info, _ = explained(answer)
    return info is not None and RETRY_KEY in info.metadata
