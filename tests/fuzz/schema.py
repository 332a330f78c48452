"""Every RPC there is, and what a path in a request may name, from the descriptors alone."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import warmstart
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

_INDEX = r"\[(?:\d+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\]"
_PART = re.compile(rf"([a-z][a-z0-9_]*)((?:{_INDEX})*)")


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of one server."""

    server: str
    service: str
    method: str
    request: type[Message]
    response: type[Message]
    streams: bool

    @property
    def name(self) -> str:
        return f"{self.server}/{self.method}"

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.method}"

    @property
    def is_ours(self) -> bool:
        """False for the health protocol, whose errors are gRPC's."""
        return self.service.startswith("warmstart.")


@cache
def all_rpcs() -> tuple[Rpc, ...]:
    """Those of every service in `warmstart`, and the health of one server."""
    found = [rpc for module in _service_modules() for rpc in _rpcs_of(module)]
    health = _methods(health_pb2.DESCRIPTOR.services_by_name["Health"], "gateway")
    # gRPC's servicer for asyncio has no `List`.
    return (*found, *(rpc for rpc in health if rpc.method != "List"))


def _service_modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(warmstart.__path__, "warmstart."):
        if found.name.endswith("_pb2"):
            yield importlib.import_module(found.name)


def _rpcs_of(module: ModuleType) -> Iterator[Rpc]:
    for service in module.DESCRIPTOR.services_by_name.values():
        yield from _methods(service, service.full_name.split(".")[1])


def _methods(service: ServiceDescriptor, server: str) -> Iterator[Rpc]:
    for method in service.methods:
        yield Rpc(
            server,
            service.full_name,
            method.name,
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
            method.server_streaming,
        )


def names_a_field(path: str, descriptor: Descriptor) -> bool:
    """Whether a path such as ``events[3].exposure.position`` exists in a request, or is the request itself.

    A part may name a oneof; what stands in brackets is a place or a key. A path that was cut short (``…``) is
    judged by what is left.
    """
    if path == "request":
        return True
    cut = path.endswith("…")
    position, inner = 0, descriptor
    text = path.removesuffix("…")
    while position < len(text):
        found = _PART.match(text, position)
        if found is None or inner is None:
            return cut and position > 0
        name, indices = found.groups()
        position = found.end()
        field = inner.fields_by_name.get(name)
        if field is None:
            is_oneof = name in inner.oneofs_by_name and position == len(text)
            return is_oneof or (cut and position == len(text))
        if indices and not (field.is_repeated or _is_open(field)):
            return False
        inner = field.message_type
        rest = text[position:]
        if rest and not rest.startswith("."):
            return cut
        position += 1
    return bool(text)


def _is_open(field: FieldDescriptor) -> bool:
    """google.protobuf.Struct: its own keys are named in brackets."""
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct"
