"""The RPCs that callers from outside reach, as their descriptors have them, called by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.contract.source import ROOT

# Areas of the contract that have a door.
GATEWAY, TRAINING = "gateway", "training"
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Rpc:
    """One RPC. area: whose door."""

    area: str
    descriptor: MethodDescriptor

    @property
    def name(self) -> str:
        return str(self.descriptor.name)

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.name}"

    def request(self, **fields: Any) -> Any:
        return GetMessageClass(self.descriptor.input_type)(**fields)

    async def ask(
        self, channel: grpc.aio.Channel, request: Any, metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> Any:
        """The answer; of a stream the first. Raises AioRpcError."""
        kind = "unary_stream" if self.descriptor.server_streaming else "unary_unary"
        response = GetMessageClass(self.descriptor.output_type)
        call = getattr(channel, kind)(
            self.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )(request, metadata=tuple(metadata), timeout=_TIMEOUT_S)
        if not self.descriptor.server_streaming:
            return await call
        async for answer in call:
            call.cancel()
            return answer
        raise AssertionError(f"{self.path} ended without an answer")


def _rpcs() -> Iterator[Rpc]:
    for area in (GATEWAY, TRAINING):
        for path in sorted((ROOT / "protos" / "warmstart" / area / "v1").glob("*.proto")):
            module = importlib.import_module(f"warmstart.{area}.v1.{path.stem}_pb2")
            for service in module.DESCRIPTOR.services_by_name.values():
                yield from (Rpc(area, method) for method in service.methods)


RPCS = {rpc.name: rpc for rpc in _rpcs()}
