"""People and their relations."""

from __future__ import annotations

from warmstart.common.v1 import user_pb2 as pb

from shared.domain import Relation, User
from shared.errors import Violation, violation
from shared.limits import MAX_KIND_BYTES
from shared.rpc.codec.checks import note_attributes, note_id, note_text, note_time, path, raise_broken

_DEFAULT_KIND = "follows"


def decode_user(message: pb.User, *, field: str) -> User:
    broken: list[Violation] = []
    note_id(broken, field, "user_id", message.user_id)
    attributes = note_attributes(broken, field, message.attributes)
    raise_broken(broken)
    return User(message.user_id, attributes)


def encode_user(user: User) -> pb.User:
    return pb.User(user_id=user.user_id, attributes=dict(user.attributes))


def decode_relation(message: pb.Relation, *, field: str) -> Relation:
    """One relation; an empty kind is "follows", weight 0 is 1."""
    broken: list[Violation] = []
    note_id(broken, field, "user_id", message.user_id)
    note_id(broken, field, "other_user_id", message.other_user_id)
    if message.user_id == message.other_user_id:
        rule = "must differ from user_id"
        broken.append(violation(path(field, "other_user_id"), rule, message.other_user_id))
    note_text(broken, field, "kind", message.kind, MAX_KIND_BYTES)
    if not 0.0 <= message.weight <= 1.0:
        broken.append(violation(path(field, "weight"), "must be 0 (meaning 1)..1", message.weight))
    note_time(broken, field, "time_ms", message.time_ms)
    raise_broken(broken)
    return Relation(
        message.user_id,
        message.other_user_id,
        message.kind or _DEFAULT_KIND,
        message.weight or 1.0,
        message.time_ms,
        message.removed,
    )


def encode_relation(relation: Relation) -> pb.Relation:
    return pb.Relation(
        user_id=relation.user_id,
        other_user_id=relation.other_user_id,
        kind=relation.kind,
        weight=relation.weight,
        time_ms=relation.time_ms,
        removed=relation.removed,
    )
