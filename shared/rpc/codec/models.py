"""Models and what they make of a person."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from warmstart.common.v1 import model_pb2 as pb

from shared.calibration import broken_rule
from shared.domain import (
    PROBABILITY,
    AdaptedUser,
    Calibration,
    FloatArray,
    HeldModel,
    Link,
    ModelRef,
    TaskInfo,
    Trail,
    Uncertainty,
)
from shared.errors import InvalidInput, Violation, violation
from shared.limits import MAX_CATEGORY_BYTES, MAX_ID_BYTES, domain_rule, text_rule
from shared.rpc.codec.checks import check_count, decode_ids, note_enum, path, raise_broken
from shared.rpc.codec.tensors import decode_floats, encode_tensor

MAX_TASKS = 64
MAX_TRAIL = 1000
# In size, of an entry of a query or a weight of a trail: products and sums of them stay numbers. Those of
# models are below 1,000, and what lists are mixed by multiplies them by a million at the most.
MAX_QUERY_ENTRY = 1e12


def decode_model_ref(message: pb.ModelRef, *, field: str) -> ModelRef:
    """A reference that names both domain and version."""
    broken: list[Violation] = []
    for name, value, rule in (
        ("domain", message.domain, domain_rule(message.domain)),
        ("version", message.version, text_rule(message.version, MAX_ID_BYTES, min_bytes=1)),
    ):
        if rule:
            broken.append(violation(path(field, name), rule, value))
    raise_broken(broken)
    return ModelRef(message.domain, message.version)


def encode_model_ref(ref: ModelRef) -> pb.ModelRef:
    return pb.ModelRef(domain=ref.domain, version=ref.version)


def decode_queries(messages: Sequence[pb.TaskQuery], *, field: str) -> tuple[tuple[str, ...], FloatArray]:
    """Task names, each once, and their vectors [num_tasks, output_dim] float32 of one length."""
    check_count(len(messages), MAX_TASKS, field=field)
    if not messages:
        raise InvalidInput.of(field, "must hold at least 1", 0)
    tasks = tuple(m.task for m in messages)
    for i, task in enumerate(tasks):
        rule = text_rule(task, MAX_CATEGORY_BYTES, min_bytes=1)
        rule = rule or ("must be named once" if task in tasks[:i] else "")
        if rule:
            raise InvalidInput.of(f"{field}[{i}].task", rule, task)
    largest = MAX_QUERY_ENTRY
    first = decode_floats(messages[0].vector, field=f"{field}[0].vector", shape=(None,), largest=largest)
    rest = [
        decode_floats(m.vector, field=f"{field}[{i}].vector", shape=first.shape, largest=largest)
        for i, m in enumerate(messages[1:], 1)
    ]
    return tasks, np.stack([first, *rest])


def encode_queries(tasks: Sequence[str], queries: FloatArray) -> list[pb.TaskQuery]:
    """queries: [num_tasks, output_dim] float32."""
    return [
        pb.TaskQuery(task=task, vector=encode_tensor(row)) for task, row in zip(tasks, queries, strict=True)
    ]


def decode_adapted_user(message: pb.AdaptedUser, *, field: str) -> AdaptedUser:
    tasks, queries = decode_queries(message.queries, field=path(field, "queries"))
    if message.shots < 0:
        raise InvalidInput.of(path(field, "shots"), "must be at least 0", message.shots)
    uncertainty = None
    if message.HasField("uncertainty"):
        uncertainty = _decode_uncertainty(
            message.uncertainty, path(field, "uncertainty"), output_dim=queries.shape[1]
        )
    model = decode_model_ref(message.model, field=path(field, "model"))
    trail = decode_trail(message.trail, field=path(field, "trail")) if message.HasField("trail") else None
    return AdaptedUser(model, tasks, queries, message.shots, uncertainty, trail)


def encode_adapted_user(user: AdaptedUser) -> pb.AdaptedUser:
    message = pb.AdaptedUser(
        model=encode_model_ref(user.model), queries=encode_queries(user.tasks, user.queries), shots=user.shots
    )
    if user.uncertainty is not None:
        message.uncertainty.factor.CopyFrom(encode_tensor(user.uncertainty.factor))
        message.uncertainty.scale = user.uncertainty.scale
        message.uncertainty.offset = user.uncertainty.offset
    if user.trail is not None:
        message.trail.CopyFrom(encode_trail(user.trail))
    return message


def decode_trail(message: pb.Trail, *, field: str) -> Trail:
    item_ids = decode_ids(message.item_ids, field=path(field, "item_ids"), max_count=MAX_TRAIL)
    weights = np.array(message.weights, np.float32)
    if len(weights) != len(item_ids):
        rule = f"must have the length of item_ids, {len(item_ids)}"
        raise InvalidInput.of(path(field, "weights"), rule, len(weights))
    bad = np.flatnonzero(~((weights >= 0.0) & (weights <= MAX_QUERY_ENTRY)))  # NaN is neither
    if len(bad):
        place = int(bad[0])
        rule = f"must be 0..{MAX_QUERY_ENTRY:g}"
        raise InvalidInput.of(path(field, f"weights[{place}]"), rule, float(weights[place]))
    return Trail(item_ids, weights)


def encode_trail(trail: Trail) -> pb.Trail:
    return pb.Trail(item_ids=trail.item_ids, weights=trail.weights)


def decode_held_model(message: pb.HeldModel, *, field: str) -> HeldModel:
    return HeldModel(
        decode_model_ref(message.model, field=path(field, "model")),
        tuple(_decode_task(t, path(field, f"tasks[{i}]")) for i, t in enumerate(message.tasks)),
        message.num_items,
    )


def encode_held_model(held: HeldModel) -> pb.HeldModel:
    return pb.HeldModel(
        model=encode_model_ref(held.ref),
        tasks=[
            pb.TaskInfo(
                name=t.name,
                offset=t.offset,
                link=pb.Link.ValueType(t.link),
                default_weight=t.default_weight,
                calibration=[
                    pb.Calibration(shots=c.shots, scale=c.scale, offset=c.offset) for c in t.calibration
                ],
                low=t.bounds[0],
                high=t.bounds[1],
            )
            for t in held.tasks
        ],
        num_items=held.num_items,
    )


def _decode_task(message: pb.TaskInfo, field: str) -> TaskInfo:
    broken: list[Violation] = []
    for name, value in (("offset", message.offset), ("default_weight", message.default_weight)):
        if not math.isfinite(value):
            broken.append(violation(path(field, name), "must be finite", value))
    link = note_enum(broken, field, "link", message.link, Link)
    calibration = tuple(Calibration(c.shots, c.scale, c.offset) for c in message.calibration)
    if rule := broken_rule(calibration):
        broken.append(violation(path(field, "calibration"), rule, calibration))
    bounds = (message.low, message.high) if message.low or message.high else PROBABILITY
    if not (math.isfinite(bounds[0]) and bounds[0] < bounds[1] < math.inf):
        broken.append(violation(path(field, "low"), "must be finite and below high", bounds))
    if broken or link is None:
        raise InvalidInput(broken)
    return TaskInfo(message.name, message.offset, link, message.default_weight, calibration, bounds)


def _decode_uncertainty(message: pb.Uncertainty, field: str, output_dim: int) -> Uncertainty:
    factor = decode_floats(message.factor, field=path(field, "factor"), shape=(None, None))
    if not (math.isfinite(message.scale) and message.scale >= 0.0):
        raise InvalidInput.of(path(field, "scale"), "must be finite and at least 0", message.scale)
    if not 0 <= message.offset <= output_dim - factor.shape[1]:
        rule = f"must leave room for {factor.shape[1]} fast weights in a query of {output_dim}"
        raise InvalidInput.of(path(field, "offset"), rule, message.offset)
    return Uncertainty(factor, message.scale, message.offset)
