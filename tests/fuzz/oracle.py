"""What any answer must be: in time, and either right or a refusal that says which field broke which rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from shared.rpc.status import ERROR_DOMAIN
from tests.fuzz.invariants import broken_invariant
from tests.fuzz.schema import Rpc, names_a_field
from tests.fuzz.seeds import BARE

OK = "OK"
# A caller's own fault; anything else while all is well is the server's.
_REFUSALS = frozenset(
    ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "NOT_FOUND", "OUT_OF_RANGE")
)
_NAMES_FIELDS = frozenset(("INVALID_INPUT", "TOO_LARGE"))
# gRPC itself refuses what is larger than twice the limit: no server of ours has seen it.
_BY_GRPC = "larger than max"
HANG = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: OK with responses, or a code with message and google.rpc.Status, b"" without one."""

    code: str
    seconds: float
    responses: Sequence[bytes] = ()
    message: str = ""
    details: bytes = b""


def problem_of(rpc: Rpc, request: bytes, answer: Answer) -> str:
    """What is wrong with an answer, "" where nothing is."""
    if answer.code == OK:
        return _wrong_answer(rpc, request, answer.responses)
    if answer.code == HANG:
        return f"no answer within {answer.seconds:.1f} s"
    if not rpc.is_ours and answer.code == "NOT_FOUND":
        return ""  # gRPC's own servicer says no more
    if answer.code == grpc.StatusCode.UNAVAILABLE.name and _domain_of(rpc, request) == BARE:
        return _unexplained(answer)  # there is no model
    if answer.code not in _REFUSALS:
        return _unfit(answer)
    if _BY_GRPC in answer.message:
        return ""
    return _unexplained(answer) or _nameless(rpc, answer)


def explained(
    answer: Answer,
) -> tuple[error_details_pb2.ErrorInfo | None, error_details_pb2.BadRequest | None]:
    """Our details of a refusal."""
    info: error_details_pb2.ErrorInfo | None = None
    bad: error_details_pb2.BadRequest | None = None
    for detail in status_pb2.Status.FromString(answer.details).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
    return info, bad


def decoded(kind: type[Message], data: bytes) -> Message | None:
    """None where the bytes are no such message."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def _unfit(answer: Answer) -> str:
    return f"{answer.code} while all is well: {answer.message[:300]}"


def _unexplained(answer: Answer) -> str:
    info, _ = explained(answer)
    if info is None or info.domain != ERROR_DOMAIN or not info.reason:
        return f"{answer.code} without ErrorInfo: {answer.message[:300]}"
    return "" if answer.message else f"{answer.code} without a message"


def _nameless(rpc: Rpc, answer: Answer) -> str:
    """A refusal for bad input must name a field of the request, its rule and the value."""
    info, bad = explained(answer)
    must = answer.code == "INVALID_ARGUMENT" or (info is not None and info.reason in _NAMES_FIELDS)
    if not must:
        return ""
    if bad is None or not bad.field_violations:
        return f"{answer.code} names no field: {answer.message[:300]}"
    for broken in bad.field_violations:
        if not broken.field and broken.description.startswith("… and "):
            continue
        if not names_a_field(broken.field, rpc.request.DESCRIPTOR):
            return f"{answer.code} names {broken.field!r}, which the request does not have"
        said = broken.description
        named = broken.field.removesuffix("…")
        if not said.startswith(named) or (", got " not in said and not said.endswith("…")):
            return f"{answer.code} does not state field, rule and value: {said[:300]!r}"
    return ""


def _wrong_answer(rpc: Rpc, request: bytes, responses: Sequence[bytes]) -> str:
    asked = decoded(rpc.request, request)
    if asked is None:
        return "bytes that are no request were accepted"
    for data in responses:
        answer = decoded(rpc.response, data)
        if answer is None:
            return "the response cannot be parsed"
        wrong = broken_invariant(rpc, asked, answer)
        if wrong:
            return wrong
    return ""


def _domain_of(rpc: Rpc, request: bytes) -> str:
    asked = decoded(rpc.request, request)
    return getattr(asked, "domain", "") if asked is not None else ""
