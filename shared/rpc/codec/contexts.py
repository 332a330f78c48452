"""User contexts: history columns, profiles, request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from warmstart.common.v1 import event_pb2, model_pb2, user_pb2

from shared.domain import (
    NUM_ACTIONS,
    Action,
    CategoryShare,
    FloatArray,
    History,
    RequestContext,
    UserContext,
)
from shared.errors import InvalidInput, Violation, violation
from shared.limits import (
    MAX_CATEGORY_BYTES,
    MAX_CATEGORY_SHARES,
    MAX_CONTEXT_BYTES,
    MAX_DWELL_S,
    MAX_ID_BYTES,
    MAX_RATING,
    MAX_TIME_MS,
    MIN_RATING,
    id_rule,
    text_rule,
)
from shared.rpc.codec.checks import (
    note_attributes,
    note_id,
    note_text,
    note_time,
    path,
    raise_broken,
)
from shared.rpc.codec.tensors import decode_floats, encode_tensor

# Of profiles, which are means of vectors of length 1: what is much larger gives no numbers in a model.
_MAX_PROFILE_ENTRY = 1000.0
# What a model reads the value of: (action, lowest, highest).
_VALUES = ((Action.RATING, MIN_RATING, MAX_RATING), (Action.DWELL, 0.0, MAX_DWELL_S))


def decode_history(message: event_pb2.History, *, field: str) -> History:
    """Columns of equal length with known actions, finite values and times that never decrease."""
    n = len(message.item_ids)
    for name, column in (
        ("actions", message.actions),
        ("values", message.values),
        ("time_ms", message.time_ms),
    ):
        if len(column) != n:
            raise InvalidInput.of(path(field, name), f"must have the length of item_ids, {n}", len(column))
    history = History(
        tuple(message.item_ids),
        np.array(message.actions, np.int32),
        np.array(message.values, np.float32),
        np.array(message.time_ms, np.int64),
    )
    if n:
        _check_columns(history, field)
    return history


def encode_history(history: History) -> event_pb2.History:
    return event_pb2.History(
        item_ids=history.item_ids,
        actions=history.actions.tolist(),
        values=history.values.tolist(),
        time_ms=history.time_ms.tolist(),
    )


def decode_request_context(
    message: user_pb2.RequestContext, *, field: str, now_ms: int = 0
) -> RequestContext:
    """Device, surface, time; time 0 becomes `now_ms`."""
    broken: list[Violation] = []
    note_text(broken, field, "device", message.device, MAX_CONTEXT_BYTES)
    note_text(broken, field, "surface", message.surface, MAX_CONTEXT_BYTES)
    note_time(broken, field, "time_ms", message.time_ms)
    raise_broken(broken)
    return RequestContext(message.device, message.surface, message.time_ms or now_ms)


def encode_request_context(context: RequestContext) -> user_pb2.RequestContext:
    return user_pb2.RequestContext(device=context.device, surface=context.surface, time_ms=context.time_ms)


def decode_context(
    message: model_pb2.UserContext, *, field: str, content_dim: int | None = None
) -> UserContext:
    """A person's context. content_dim: length both profiles must have; an unset profile is zeros of it."""
    broken: list[Violation] = []
    note_id(broken, field, "user_id", message.user_id)
    attributes = note_attributes(broken, field, message.attributes)
    categories = _note_shares(broken, field, message.categories)
    if message.total_events < 0:
        broken.append(violation(path(field, "total_events"), "must be at least 0", message.total_events))
    raise_broken(broken)
    return UserContext(
        message.user_id,
        decode_history(message.history, field=path(field, "history")),
        _profile(message, "content_profile", field, content_dim),
        _profile(message, "social_profile", field, content_dim),
        attributes,
        categories,
        message.total_events,
        decode_request_context(message.request, field=path(field, "request")),
    )


def encode_context(context: UserContext) -> model_pb2.UserContext:
    return model_pb2.UserContext(
        user_id=context.user_id,
        history=encode_history(context.history),
        attributes=dict(context.attributes),
        content_profile=encode_tensor(context.content_profile),
        social_profile=encode_tensor(context.social_profile),
        categories=[user_pb2.CategoryShare(category=c.category, share=c.share) for c in context.categories],
        total_events=context.total_events,
        request=encode_request_context(context.request),
    )


def _note_shares(
    broken: list[Violation], field: str, shares: Sequence[user_pb2.CategoryShare]
) -> tuple[CategoryShare, ...]:
    if len(shares) > MAX_CATEGORY_SHARES:
        rule = f"must hold at most {MAX_CATEGORY_SHARES}"
        broken.append(violation(path(field, "categories"), rule, len(shares)))
    kept = tuple(CategoryShare(share.category, share.share) for share in shares[:MAX_CATEGORY_SHARES])
    for place, share in enumerate(kept):
        rule = text_rule(share.category, MAX_CATEGORY_BYTES, min_bytes=1)
        if rule:
            broken.append(violation(path(field, f"categories[{place}].category"), rule, share.category))
        if not 0.0 <= share.share <= 1.0:  # nor NaN
            name = f"categories[{place}].share"
            broken.append(violation(path(field, name), "must be in 0..1", share.share))
    return kept


def _profile(message: model_pb2.UserContext, name: str, field: str, content_dim: int | None) -> FloatArray:
    if not message.HasField("content_profile" if name == "content_profile" else "social_profile"):
        return np.zeros(content_dim or 0, np.float32)
    tensor = message.content_profile if name == "content_profile" else message.social_profile
    return decode_floats(tensor, field=path(field, name), shape=(content_dim,), largest=_MAX_PROFILE_ENTRY)


def _check_columns(history: History, field: str) -> None:
    """Raises InvalidInput at the first place that breaks a rule."""
    actions, values, times = history.actions, history.values, history.time_ms
    if actions.min() < 1 or actions.max() >= NUM_ACTIONS:
        place = int(np.flatnonzero((actions < 1) | (actions >= NUM_ACTIONS))[0])
        rule = f"must be a known action, 1..{NUM_ACTIONS - 1}"
        raise InvalidInput.of(path(field, f"actions[{place}]"), rule, int(actions[place]))
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidInput.of(path(field, f"values[{place}]"), "must be finite", float(values[place]))
    for action, low, high in _VALUES:
        bad = np.flatnonzero((actions == action) & ((values < low) | (values > high)))
        if len(bad):
            place = int(bad[0])
            rule = f"must be {low:g}..{high:g} for a {action.name.lower()}"
            raise InvalidInput.of(path(field, f"values[{place}]"), rule, float(values[place]))
    if times[0] < 0 or times[-1] > MAX_TIME_MS:
        place = 0 if times[0] < 0 else len(times) - 1
        rule = f"must be milliseconds since 1970, 0..{MAX_TIME_MS}"
        raise InvalidInput.of(path(field, f"time_ms[{place}]"), rule, int(times[place]))
    backward = np.flatnonzero(times[1:] < times[:-1])
    if len(backward):
        place = int(backward[0]) + 1
        rule = f"must be at least the one before, {int(times[place - 1])}"
        raise InvalidInput.of(path(field, f"time_ms[{place}]"), rule, int(times[place]))
    # Lengths first: a full look at each id costs more than all the columns together.
    if min(map(len, history.item_ids)) == 0 or max(map(len, history.item_ids)) > MAX_ID_BYTES:
        place, item_id = next((i, v) for i, v in enumerate(history.item_ids) if id_rule(v))
        raise InvalidInput.of(path(field, f"item_ids[{place}]"), id_rule(item_id), item_id)
