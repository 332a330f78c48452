"""Adaptation's messages ↔ domain types."""

from __future__ import annotations

from warmstart.adaptation.v1 import adaptation_service_pb2 as pb

from shared.domain import UserContext
from shared.errors import InvalidInput
from shared.rpc.codec import check_count, decode_context

MAX_USERS_A_BATCH = 1024


def decode_one(request: pb.AdaptUserRequest, *, content_dim: int) -> UserContext:
    """The person to adapt to; InvalidInput where it is missing or breaks a rule."""
    if not request.HasField("context"):
        raise InvalidInput.of("context", "must be set", None)
    return decode_context(request.context, field="context", content_dim=content_dim)


def decode_many(request: pb.BatchAdaptUsersRequest, *, content_dim: int) -> list[UserContext]:
    """The people to adapt to, in order."""
    check_count(len(request.contexts), MAX_USERS_A_BATCH, field="contexts")
    return [
        decode_context(c, field=f"contexts[{i}]", content_dim=content_dim)
        for i, c in enumerate(request.contexts)
    ]
