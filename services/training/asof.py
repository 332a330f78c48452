"""Features of many people at many moments at once, equal to what serving computes for one.

Nothing from the moment itself or later is read. The plain versions are `content_profile` and
`social_profile` in `shared.context.profiles`; tests hold these against them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from services.training.data import Int64Array, TrainingData, offsets_of
from shared.context.labels import signed_labels
from shared.context.profiles import PROFILE_HALF_LIFE_S
from shared.context.standing import standing_places
from shared.context.vectors import REQUEST_DIM, request_vector
from shared.domain import FloatArray, IntArray, RequestContext, TimeArray
from shared.vectors import unit_rows

_TIME_DIM = 4
_DAY_MS = 24 * 3600 * 1000


def events_before(data: TrainingData, users: IntArray, time_ms: TimeArray) -> Int64Array:
    """How many events each person has strictly before a moment. users, time_ms: [B]; [B] int64."""
    starts, ends = data.offsets[users], data.offsets[users + 1]
    counts = [
        np.searchsorted(data.time_ms[start:end], moment, side="left")
        for start, end, moment in zip(starts, ends, time_ms, strict=True)
    ]
    return np.array(counts, np.int64)


def content_profiles(data: TrainingData, users: IntArray, num_events: Int64Array) -> FloatArray:
    """Content profile of each person after their first `num_events` events.

    users: [B] int; num_events: [B] int, 0 to the person's number of events.
    Returns [B, content_dim] float32, unit length or zeros.
    """
    num_events = np.asarray(num_events, np.int64)
    batch = len(users)
    starts = data.offsets[users]
    rows = np.repeat(np.arange(batch), num_events)
    within = np.arange(len(rows)) - np.repeat(offsets_of(num_events)[:-1], num_events)
    at = starts[rows] + within
    # Serving decays relative to the newest event, so a profile never fades to nothing.
    newest = data.time_ms[np.maximum(starts + num_events - 1, 0)] if data.num_events else starts
    age_s = (newest[rows] - data.time_ms[at]) / 1000.0
    actions, values = data.told(at)
    labels = signed_labels(actions, values)
    labels[~standing_rows(data.items[at], actions, offsets_of(num_events))] = 0.0
    weights = np.maximum(labels, 0.0) * np.exp2(-age_s / PROFILE_HALF_LIFE_S)
    table = csr_matrix(
        (weights.astype(np.float32), data.items[at], offsets_of(num_events)), shape=(batch, data.num_items)
    )
    return unit_rows(np.asarray(table @ data.content, np.float32))


def standing_rows(items: IntArray, actions: IntArray, offsets: Int64Array) -> NDArray[np.bool_]:
    """Which events stand within each row of events, see `shared.context.standing`. [n] bool.

    Row b is `offsets[b]:offsets[b + 1]`. Most rows name no item twice: those cost a sort.
    """
    stands = np.ones(len(items), bool)
    for start, end in pairwise(offsets.tolist()):
        row = items[start:end]
        if len(np.unique(row)) < len(row):
            kept = standing_places(row.tolist(), actions[start:end].tolist())
            stands[start:end] = False
            stands[start + np.array(kept)] = True
    return stands


def social_profiles(data: TrainingData, users: IntArray, time_ms: TimeArray) -> FloatArray:
    """Social profile of each person at a moment: the neighbours' content profiles as of then.

    users, time_ms: [B]. Relations that began later do not count. Returns [B, content_dim] float32.
    """
    relations = data.neighbours
    counts = np.diff(relations.offsets)[users]
    if not counts.sum():
        return np.zeros((len(users), data.content.shape[1]), np.float32)
    rows = np.repeat(np.arange(len(users)), counts)
    within = np.arange(len(rows)) - np.repeat(offsets_of(counts)[:-1], counts)
    at = relations.offsets[users][rows] + within
    begun = relations.since_ms[at] <= np.asarray(time_ms)[rows]
    rows, at = rows[begun], at[begun]
    others = relations.users[at]
    theirs = content_profiles(data, others, events_before(data, others, np.asarray(time_ms)[rows]))
    mixing = csr_matrix(
        (relations.weights[at], (rows, np.arange(len(rows)))), shape=(len(users), len(rows)), dtype=np.float32
    )
    return unit_rows(np.asarray(mixing @ theirs, np.float32))


def request_vectors(time_ms: TimeArray) -> FloatArray:
    """Request vectors of moments without device and surface. [B] → [B, REQUEST_DIM] float32."""
    vectors = np.zeros((len(time_ms), REQUEST_DIM), np.float32)
    moments = np.asarray(time_ms, np.int64)
    for at, period in ((REQUEST_DIM - _TIME_DIM, _DAY_MS), (REQUEST_DIM - _TIME_DIM + 2, 7 * _DAY_MS)):
        angle = 2.0 * np.pi * (moments % period) / period
        vectors[:, at] = np.sin(angle)
        vectors[:, at + 1] = np.cos(angle)
    # A moment of 0 means "no time", as in `request_vector`.
    vectors[moments <= 0] = request_vector(RequestContext())
    return vectors
