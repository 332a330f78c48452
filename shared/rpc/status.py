"""Our errors ↔ google.rpc.Status with BadRequest and ErrorInfo details, the same on both ends of a call."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from shared import errors
from shared.errors import (
    RETRY_KEY,
    DeadlinePassed,
    InvalidInput,
    ModelNotHeld,
    NotFound,
    Overloaded,
    PermissionDenied,
    StaleCursor,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Violation,
    WarmstartError,
)

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "warmstart"
# Trailers over 8 KiB are refused by gRPC's peers, so the details stay well below.
_MAX_MESSAGE_CHARS = 1000
_MAX_VIOLATIONS = 10
_MAX_METADATA_CHARS = 256
_MAX_FIELD_CHARS = 128

# Those with constructors of their own are told apart in `from_rpc_error`.
_BY_REASON: dict[str, type[WarmstartError]] = {
    cls.reason: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, WarmstartError) and cls.__init__ is WarmstartError.__init__
}
_BY_CODE: dict[grpc.StatusCode, type[WarmstartError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: StaleCursor,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    # The server gave the call up while it was stopping: trying again may help.
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


def status_code(error: WarmstartError) -> grpc.StatusCode:
    """The gRPC status of an error's class."""
    return grpc.StatusCode[error.code]


def to_status(error: WarmstartError) -> status_pb2.Status:
    """As google.rpc.Status of at most ~6 KiB: ErrorInfo always, BadRequest where fields broke
    rules, RetryInfo where trying again later is worth it."""
    status = status_pb2.Status(code=status_code(error).value[0], message=_cut(str(error), _MAX_MESSAGE_CHARS))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)
    for name, value in error.metadata.items():
        info.metadata[name] = _cut(value, _MAX_METADATA_CHARS)
    status.details.add().Pack(info)
    if isinstance(error, InvalidInput):
        status.details.add().Pack(_bad_request(error.violations))
    if RETRY_KEY in error.metadata:
        delay = Duration()
        delay.FromMilliseconds(int(error.metadata[RETRY_KEY]))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> WarmstartError:
    """The error that the other end raised, or the nearest of ours for one that gRPC itself made."""
    code, message = error.code(), error.details() or error.code().name
    info, violations = _details(error)
    if info is None:
        return _from_code(code, message)
    metadata = dict(info.metadata)
    if info.reason == InvalidInput.reason:
        return InvalidInput(violations or (Violation("", message),))
    if info.reason == TooLarge.reason:
        return TooLarge(violations or (Violation("", message),))
    if info.reason == ModelNotHeld.reason:
        held = [v for v in metadata.get("held", "").split(",") if v]
        return ModelNotHeld(metadata.get("domain", ""), metadata.get("version", ""), held)
    return _BY_REASON.get(info.reason, WarmstartError)(message, metadata=metadata)


def _from_code(code: grpc.StatusCode, message: str) -> WarmstartError:
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInput([Violation("", message)])
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return TooLarge([Violation("request", message)])
    known = _BY_CODE.get(code)
    return known(message) if known else WarmstartError(f"{code.name}: {message}")


def _details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, tuple[Violation, ...]]:
    info: error_details_pb2.ErrorInfo | None = None
    violations: tuple[Violation, ...] = ()
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                unpacked = error_details_pb2.ErrorInfo()
                detail.Unpack(unpacked)
                info = unpacked if unpacked.domain == ERROR_DOMAIN else info
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest()
                detail.Unpack(bad)
                violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
    return info, violations


def _bad_request(violations: Iterable[Violation]) -> error_details_pb2.BadRequest:
    kept = tuple(violations)
    bad = error_details_pb2.BadRequest()
    for one in kept[:_MAX_VIOLATIONS]:
        bad.field_violations.add(
            field=_cut(one.field, _MAX_FIELD_CHARS), description=_cut(one.description, _MAX_METADATA_CHARS)
        )
    if len(kept) > _MAX_VIOLATIONS:
        bad.field_violations.add(description=f"… and {len(kept) - _MAX_VIOLATIONS} more")
    return bad


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"
