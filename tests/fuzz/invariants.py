"""What holds of every accepted answer, whatever was asked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from warmstart.common.v1 import tensor_pb2

from shared.errors import InvalidInput
from shared.rpc.codec import decode_tensor
from tests.fuzz.schema import Rpc

_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_REASON = re.compile(r"(\w+)\[(\d+)\]")
_COSINE_SLACK = 1e-4


def broken_invariant(rpc: Rpc, asked: Any, answer: Any) -> str:
    """What does not hold, "" where all does."""
    check = _CHECKS.get(rpc.method)
    return _no_number(answer) or (check(asked, answer) if check is not None else "")


def _no_number(message: Message) -> str:
    """NaN or an infinity anywhere, or a tensor that is not what it says."""
    if message.DESCRIPTOR is tensor_pb2.Tensor.DESCRIPTOR:
        try:
            array = decode_tensor(message, field="tensor")
        except InvalidInput as error:
            return str(error)
        return "" if np.isfinite(array).all() else "a tensor holds what is not finite"
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is None:
            if field.type in _FLOATS:
                values = value if field.is_repeated else (value,)
                if not all(map(math.isfinite, values)):
                    return f"{field.full_name} is not finite"
        elif kind.GetOptions().map_entry:
            if any(isinstance(v, float) and not math.isfinite(v) for v in value.values()):
                return f"{field.full_name} holds what is not finite"
        else:
            for inner in value if field.is_repeated else (value,):
                if wrong := _no_number(inner):
                    return f"{field.name}: {wrong}"
    return ""


def _unique(values: Iterable[Any], what: str) -> str:
    values = list(values)
    return "" if len(set(values)) == len(values) else f"{what} repeat"


def _size(asked: Any, default: int) -> int:
    """Of a page. proto3's optional fields tell 0 from unset."""
    field = asked.DESCRIPTOR.fields_by_name.get("page_size") or asked.DESCRIPTOR.fields_by_name["limit"]
    return getattr(asked, field.name) or default


def _recommend(asked: Any, answer: Any) -> str:
    items = answer.items
    ids = [item.item_id for item in items]
    positions = [item.position for item in items]
    checks = (
        (not answer.list_id, "a list without an id"),
        (len(items) > _size(asked, 10), "more items than the page has places"),
        (len(set(ids)) < len(ids), "an item twice in a list"),
        (not set(ids).isdisjoint(asked.exclude_item_ids), "an excluded item in the list"),
        (
            positions != list(range(positions[0], positions[0] + len(ids))) if ids else False,
            "positions with gaps",
        ),
        (not all(0.0 < item.propensity <= 1.0 for item in items), "a propensity out of (0, 1]"),
        (not 1 <= answer.rung <= 4, "no rung"),
        (not all(item.source for item in items), "an item without a source"),
        (
            not all(i.item.item_id == i.item_id for i in items if i.HasField("item")),
            "an item's details amiss",
        ),
    )
    if asked.candidate_item_ids and not set(ids) <= {
        *asked.candidate_item_ids,
        *(p.item_id for p in asked.pins),
    }:
        return "an item that is no candidate"
    return _first(checks)


def _first(checks: Sequence[tuple[bool, str]]) -> str:
    return next((what for wrong, what in checks if wrong), "")


def _results(field: str) -> Callable[[Any, Any], str]:
    """One result an element, in order; a refused one says which element broke which rule."""

    def check(asked: Any, answer: Any) -> str:
        given = getattr(asked, field)
        if len(answer.results) != len(given):
            return f"{len(answer.results)} results of {len(given)} {field}"
        for place, result in enumerate(answer.results):
            rejected = not result.stored if hasattr(result, "stored") else "REJECTED" in _status(result)
            if not rejected:
                continue
            named = _REASON.match(result.reason)
            if named is None or named.groups() != (field, str(place)):
                return f"result {place} is refused without naming {field}[{place}]: {result.reason[:200]!r}"
        return ""

    return check


def _status(result: Any) -> str:
    field = result.DESCRIPTOR.fields_by_name["status"]
    known = field.enum_type.values_by_number.get(result.status)
    return "REJECTED unknown" if known is None or not known.number else str(known.name)


def _get_items(asked: Any, answer: Any) -> str:
    got, wanted = len(answer.items) + len(answer.missing_item_ids), len(asked.item_ids)
    return "" if got == wanted else f"{got} items found and missing of {wanted} asked for"


def _list_items(asked: Any, answer: Any) -> str:
    ids = [item.item_id.encode() for item in answer.items]
    return _first(
        (
            (len(ids) > _size(asked, 100), "a page too long"),
            (any(a >= b for a, b in pairwise(ids)), "items not in the order of their ids"),
        )
    )


def _similar(asked: Any, answer: Any) -> str:
    ids = [item.item_id for item in answer.items]
    return _first(
        (
            (len(ids) > _size(asked, 10), "more items than asked for"),
            (not set(ids).isdisjoint(asked.exclude_item_ids), "an excluded item"),
            (any(abs(item.score) > 1.0 + _COSINE_SLACK for item in answer.items), "a cosine beyond 1"),
        )
    ) or _unique(ids, "similar items")


def _trending(asked: Any, answer: Any) -> str:
    weights = [item.weight for item in answer.items]
    return _first(
        (
            (len(weights) > _size(asked, 200), "more items than asked for"),
            (not all(0.0 < w <= 1.0 for w in weights), "a weight out of (0, 1]"),
            (weights != sorted(weights, reverse=True), "weights that rise"),
        )
    ) or _unique((item.item_id for item in answer.items), "trending items")


def _retrieved(asked: Any, answer: Any) -> str:
    if len(answer.results) != len(asked.queries):
        return f"{len(answer.results)} results of {len(asked.queries)} queries"
    excluded = set(asked.exclude_item_ids)
    for query, found in zip(asked.queries, answer.results, strict=True):
        scores = list(found.scores)
        wrong = _first(
            (
                (len(found.item_ids) != len(scores), "scores that do not match the items"),
                (len(scores) > query.limit, "more items than asked for"),
                (not excluded.isdisjoint(found.item_ids), "an excluded item"),
                (any(a < b for a, b in pairwise(scores)), "scores that rise"),
            )
        ) or _unique(found.item_ids, "retrieved items")
        if wrong:
            return wrong
    return _scored_shape(answer.scored) if answer.HasField("scored") else ""


def _scored(asked: Any, answer: Any) -> str:
    got, wanted = len(answer.item_ids) + len(answer.missing_item_ids), len(asked.item_ids)
    return f"{got} items scored and missing of {wanted}" if got != wanted else _scored_shape(answer)


def _scored_shape(answer: Any) -> str:
    wanted = [len(answer.item_ids), len(answer.tasks)]
    got = list(answer.scores.shape)
    return "" if got == wanted else f"scores of shape {got}, must be {wanted}"


def _adapted(asked: Any, answer: Any) -> str:
    people = answer.users if hasattr(answer, "users") else [answer.user]
    wanted = len(asked.contexts) if hasattr(asked, "contexts") else 1
    return _first(
        (
            (len(people) != wanted, f"{len(people)} people of {wanted}"),
            (not all(person.queries for person in people), "a person without queries"),
            (any(person.shots < 0 for person in people), "shots below 0"),
        )
    )


def _context(asked: Any, answer: Any) -> str:
    history = answer.context.history
    sizes = {len(column) for column in (history.item_ids, history.actions, history.values, history.time_ms)}
    times = list(history.time_ms)
    return _first(
        (
            (answer.context.user_id != asked.user_id, "another person's context"),
            (len(sizes) > 1, "columns of different length"),
            (times != sorted(times), "a history out of order"),
        )
    ) or _unique(answer.seen_item_ids, "seen items")


def _page(field: str, default: int) -> Callable[[Any, Any], str]:
    def check(asked: Any, answer: Any) -> str:
        return "a page too long" if len(getattr(answer, field)) > _size(asked, default) else ""

    return check


_CHECKS: dict[str, Callable[[Any, Any], str]] = {
    "Recommend": _recommend,
    "RecordFeedback": _results("events"),
    "RecordEvents": _results("events"),
    "UpsertItems": _results("items"),
    "DeleteItems": _results("item_ids"),
    "UpsertUsers": _results("users"),
    "UpsertRelations": _results("relations"),
    "GetItems": _get_items,
    "ListItems": _list_items,
    "ListSimilarItems": _similar,
    "ListTrendingItems": _trending,
    "RetrieveItems": _retrieved,
    "ScoreItems": _scored,
    "AdaptUser": _adapted,
    "BatchAdaptUsers": _adapted,
    "GetUserContext": _context,
    "ListTrainings": _page("trainings", 50),
    "ListModels": _page("models", 100),
}
