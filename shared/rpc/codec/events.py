"""Events."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace
from hashlib import blake2b

from warmstart.common.v1 import event_pb2 as pb

from shared.domain import Action, Event, Exposure
from shared.errors import InvalidInput, Violation, violation
from shared.limits import (
    MAX_DWELL_S,
    MAX_EVENT_ID_BYTES,
    MAX_FUTURE_MS,
    MAX_ID_BYTES,
    MAX_RATING,
    MAX_TIME_MS,
    MIN_RATING,
)
from shared.rpc.codec.checks import MAX_FLOAT32, note_enum, note_id, note_text, path

_MAX_POSITION = (1 << 31) - 1


def decode_event(message: pb.Event, *, field: str, now_ms: int, default_user_id: str | None = None) -> Event:
    """One event; time 0 becomes `now_ms`, an empty event_id is derived.

    With `default_user_id` the event belongs to that person: its own user_id may be empty, but not another.
    """
    broken: list[Violation] = []
    user_id = message.user_id or default_user_id or ""
    if default_user_id is not None and user_id != default_user_id:
        rule = "must be empty or the request's user_id"
        broken.append(violation(path(field, "user_id"), rule, user_id))
    note_id(broken, field, "user_id", user_id)
    note_id(broken, field, "item_id", message.item_id)
    note_text(broken, field, "event_id", message.event_id, MAX_EVENT_ID_BYTES)
    action = note_enum(broken, field, "action", message.action, Action)
    value = message.value
    rule = _value_rule(action, value)
    if rule:
        broken.append(violation(path(field, "value"), rule, value))
    if not 0 <= message.time_ms <= min(now_ms + MAX_FUTURE_MS, MAX_TIME_MS):
        rule = f"must be 0 (now) or milliseconds since 1970, at most {MAX_FUTURE_MS // 60_000} minutes ahead"
        broken.append(violation(path(field, "time_ms"), rule, message.time_ms))
    exposure = (
        _decode_exposure(message.exposure, path(field, "exposure"), broken)
        if message.HasField("exposure")
        else None
    )
    if broken or action is None:
        raise InvalidInput(broken)
    event = Event(
        user_id, message.item_id, action, value, message.time_ms or now_ms, message.event_id, exposure
    )
    if event.event_id:
        return event
    # Without a time of its own nothing tells two such events apart from one sent twice.
    return replace(event, event_id=derived_event_id(event) if message.time_ms else uuid.uuid4().hex)


def derived_event_id(event: Event) -> str:
    """Id of an event that came without one: a hash of person, item, action, value and time. 32 hex digits.

    Equals what `shared.datasets.event_ids` gives the first of equal rows.
    """
    content = "\x1f".join(
        (event.user_id, event.item_id, event.action.name, repr(event.value), str(event.time_ms))
    )
    return blake2b(content.encode(), digest_size=16).hexdigest()


def encode_event(event: Event) -> pb.Event:
    message = pb.Event(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        action=pb.Action.ValueType(event.action),
        value=event.value,
        time_ms=event.time_ms,
    )
    if event.exposure is not None:
        shown = event.exposure
        message.exposure.list_id = shown.list_id
        message.exposure.position = shown.position
        message.exposure.propensity = shown.propensity
        message.exposure.source = shown.source
        message.exposure.model_version = shown.model_version
        message.exposure.experiment_key = shown.experiment_key
        message.exposure.SetInParent()
    return message


def _value_rule(action: Action | None, value: float) -> str:
    if not math.isfinite(value):
        return "must be finite"
    if abs(value) > MAX_FLOAT32:
        return "must fit 32 bits, as histories keep it"
    if action is Action.RATING and not MIN_RATING <= value <= MAX_RATING:
        return f"must be {MIN_RATING:g}..{MAX_RATING:g} for a rating"
    if action is Action.DWELL and not 0.0 <= value <= MAX_DWELL_S:
        return f"must be 0..{MAX_DWELL_S:g} seconds for a dwell"
    return ""


def _decode_exposure(message: pb.Exposure, field: str, broken: list[Violation]) -> Exposure:
    for name, text in (
        ("list_id", message.list_id),
        ("source", message.source),
        ("model_version", message.model_version),
        ("experiment_key", message.experiment_key),
    ):
        note_text(broken, field, name, text, MAX_EVENT_ID_BYTES if name == "experiment_key" else MAX_ID_BYTES)
    if not 0 <= message.position <= _MAX_POSITION:
        broken.append(violation(path(field, "position"), "must be at least 0", message.position))
    if not 0.0 <= message.propensity <= 1.0:
        broken.append(violation(path(field, "propensity"), "must be 0 (unknown)..1", message.propensity))
    return Exposure(
        message.list_id,
        message.position,
        message.propensity,
        message.source,
        message.model_version,
        message.experiment_key,
    )
