"""Episodes: a support set, and the query events that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from services.training.asof import request_vectors, social_profiles, standing_rows
from services.training.data import Int64Array, TrainingData, offsets_of
from services.training.windows import Batch, Cuts, event_inputs, places, rated, vary_actions
from shared.context.labels import signed_labels
from shared.context.profiles import PROFILE_HALF_LIFE_S
from shared.domain import FloatArray, IntArray, TimeArray
from shared.vectors import unit_rows

# The few-shot protocol of the evaluation: query = a person's events 21..30.
PROTOCOL_EVENTS_BEFORE = 20
PROTOCOL_QUERY = 10


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """How episodes are drawn.

    max_shots: support events are 0..max_shots, small numbers more often; none_share: share of
    episodes without any; query: events to predict (the nearer an event, the more the support says of it:
    on MovieLens-100K 5 taught more than 3, 10 or 20, also where the next 10 are asked for); early_share:
    share of episodes whose query lies within a person's first `early_events` (strangers are what we train
    for), as that of all without support does: whom we know nothing of has just come. unseen_events: how many
    events that nobody told us of such a person has had at least, where there are so many: what people begin
    with differs from what they go on with, which is what is asked for.
    thin_share: see `thin`; action_share: see `windows.vary_actions`; pool_items: see `windows.make_pool`.
    """

    max_shots: int = 20
    none_share: float = 0.1
    query: int = 5
    early_share: float = 0.5
    early_events: int = 30
    unseen_events: int = 0
    thin_share: float = 0.5
    action_share: float = 0.5
    pool_items: int = 8000


def draw_episodes(
    data: TrainingData, users: IntArray, size: int, shape: EpisodeShape, rng: np.random.Generator
) -> Cuts:
    """Support sets of `size` random episodes; each is followed by at least one query event.

    users: who may be drawn, equally likely. k is log-uniform over 1..max_shots.
    """
    able = users[data.lengths[users] > 1]
    return cut_episodes(data, able[rng.integers(len(able), size=size)], shape, rng)


def cut_episodes(data: TrainingData, drawn: IntArray, shape: EpisodeShape, rng: np.random.Generator) -> Cuts:
    """The same of given people, who have more than one event each."""
    size = len(drawn)
    shots = np.floor(np.exp(rng.random(size) * np.log(shape.max_shots + 1))).astype(np.int64)
    shots[rng.random(size) < shape.none_share] = 0
    # Where the query begins: anywhere that leaves a whole query set, if there is such a place.
    last = np.maximum(data.lengths[drawn] - shape.query, 1)
    early = (rng.random(size) < shape.early_share) | (shots == 0)
    last = np.where(early, np.minimum(last, shape.early_events), last)
    shots = np.minimum(shots, last)
    least = np.where(shots == 0, np.minimum(shape.unseen_events, last), shots)
    begin = least + np.floor(rng.random(size) * (last - least + 1)).astype(np.int64)
    return Cuts(drawn.astype(np.int32), begin - shots, shots)


@dataclass(frozen=True, slots=True)
class Moments:
    """When people are asked: after so many of their events, for the next `query` of them."""

    before: tuple[int, ...]
    query: int


# Several of each person's, as validation people are few: the evaluation's, and later ones.
LONG_HISTORIES = Moments((PROTOCOL_EVENTS_BEFORE, 35, 50), PROTOCOL_QUERY)
SHORT_HISTORIES = Moments((3, 6, 12), 5)


def moments_for(data: TrainingData, users: IntArray) -> Moments:
    """Those of the evaluation, unless most of the people have not got so many events: then the few who have
    would speak for all."""
    longest = PROTOCOL_EVENTS_BEFORE + PROTOCOL_QUERY
    enough = np.count_nonzero(data.lengths[users] >= longest)
    shortest = SHORT_HISTORIES.before[0] + SHORT_HISTORIES.query
    few = np.count_nonzero(data.lengths[users] >= shortest)
    return LONG_HISTORIES if 2 * enough >= few else SHORT_HISTORIES


def protocol_episodes(
    data: TrainingData,
    users: IntArray,
    shots: int,
    before: Sequence[int] = (PROTOCOL_EVENTS_BEFORE,),
    query: int = PROTOCOL_QUERY,
) -> Cuts:
    """The evaluation's episodes: support = the last `shots` of events 1..20; people with ≥ 30 events.

    before, query: other numbers of events in place of 20 and 10; each of `before` with room for the shots
    gives its own episodes.
    """
    nobody = np.zeros(0, np.int32)
    parts = [(nobody, nobody.astype(np.int64), nobody.astype(np.int64))]
    for events in before:
        able = users[data.lengths[users] >= events + query] if events >= shots else nobody
        size = len(able)
        starts, counts = np.full(size, events - shots, np.int64), np.full(size, shots, np.int64)
        parts.append((able.astype(np.int32), starts, counts))
    return Cuts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def thin(
    index: Int64Array, mask: FloatArray, room: Int64Array, share: float, rng: np.random.Generator
) -> Int64Array:
    """Support sets with gaps: of a `share` of episodes, the k events are drawn among the last 2k + 3.

    People skip things and logs lose events; and one person gives many more episodes this way.
    index, mask [B, L]: from `places`; room [B]: events that the person has before the query.
    """
    count = mask.sum(axis=1).astype(np.int64)
    reach = np.minimum(2 * count + 3, room)
    newest = index[:, -1]
    result = index.copy()
    for row in np.flatnonzero((rng.random(len(index)) < share) & (count > 0)):
        back = np.sort(rng.choice(reach[row], size=count[row], replace=False))[::-1]
        result[row, -count[row] :] = newest[row] - back
    return result


def settled(data: TrainingData, index: Int64Array, mask: FloatArray) -> tuple[Int64Array, FloatArray]:
    """The same without events that no longer stand, as serving reads a history. [B, L] each."""
    on = mask > 0
    stands = np.zeros(mask.shape, bool)
    stands[on] = standing_rows(data.items[index[on]], data.told(index[on])[0], offsets_of(on.sum(axis=1)))
    if stands.sum() == on.sum():
        return index, mask
    order = np.argsort(stands, axis=1, kind="stable")  # padding first, events in their order
    kept = np.take_along_axis(stands, order, axis=1)
    return np.where(kept, np.take_along_axis(index, order, axis=1), 0), kept.astype(np.float32)


def episode_inputs(
    data: TrainingData,
    cuts: Cuts,
    length: int,
    *,
    action_share: float = 0.0,
    thin_share: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Model inputs as of each query's beginning, as serving would build them for a person who has done
    nothing but the support events: `items` in place of rows, and all else of `ModelInputs`.

    action_share: see `windows.vary_actions`; needs rng.
    """
    index, mask = places(data, cuts, length)
    if rng is not None and thin_share > 0.0:
        index = thin(index, mask, cuts.starts + cuts.counts, thin_share, rng)
    index, mask = settled(data, index, mask)
    batch = event_inputs(data, index, mask)
    if rng is None:
        batch["labels"] = signed_labels(batch["actions"], batch["values"])
    else:
        batch = vary_actions(batch, action_share, rng)
    return as_of(data, batch, index, cuts.users, query_times(data, cuts))


def as_of(data: TrainingData, batch: Batch, index: Int64Array, users: IntArray, now: TimeArray) -> Batch:
    """A batch of events with all else of `ModelInputs` as of a moment.

    batch: from `event_inputs` at index, with labels; users, now [B]: whose, and when, in milliseconds.
    """
    ages = np.maximum((now[:, None] - data.time_ms[index]) / 1000.0, 0.0)
    batch["ages_s"] = (np.minimum(ages, 3.0e9) * batch["mask"]).astype(np.float32)
    batch["attributes"] = data.attributes[users]
    batch["content_profile"] = support_profiles(data, batch)
    batch["social_profile"] = social_profiles(data, users, now)
    batch["request"] = request_vectors(now)
    return batch


def query_times(data: TrainingData, cuts: Cuts) -> TimeArray:
    """Time of the first query event. [B] int64, milliseconds."""
    after = np.minimum(cuts.starts + cuts.counts, data.lengths[cuts.users] - 1)
    times: TimeArray = data.time_ms[data.offsets[cuts.users] + after]
    return times


def support_profiles(data: TrainingData, batch: Batch) -> FloatArray:
    """Content profile from the support events alone, equal to `shared.context.profiles.content_profile`.

    Returns [B, content_dim] float32, unit length or zeros.
    """
    mask, ages = batch["mask"], batch["ages_s"]
    newest = np.where(mask > 0, ages, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    since = np.where(mask > 0, ages - np.where(np.isfinite(newest), newest, 0.0), 0.0)
    weights = np.maximum(batch["labels"], 0.0) * np.exp2(-since / PROFILE_HALF_LIFE_S) * mask
    length = mask.shape[1]
    pointers = offsets_of(np.full(len(mask), length))
    table = csr_matrix(
        (weights.ravel().astype(np.float32), batch["items"].ravel(), pointers),
        shape=(len(mask), data.num_items),
    )
    return unit_rows(np.asarray(table @ data.content, np.float32))


def query_sets(data: TrainingData, cuts: Cuts, size: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """The events after each support set: items [B, size] int32, mask and labels [B, size] float32."""
    index, mask = _query_places(data, cuts, size)
    items = np.where(mask, data.items[index], 0).astype(np.int32)
    labels = np.where(mask, data.labels[index], 0.0).astype(np.float32)
    return items, mask.astype(np.float32), labels


def query_stars(data: TrainingData, cuts: Cuts, size: int) -> tuple[FloatArray, FloatArray]:
    """Of the same events, the stars and which are ratings. [B, size] float32 each."""
    index, mask = _query_places(data, cuts, size)
    rating = mask & rated(data.actions[index])
    return np.where(rating, data.values[index], 0.0).astype(np.float32), rating.astype(np.float32)


def _query_places(
    data: TrainingData, cuts: Cuts, size: int
) -> tuple[Int64Array, np.ndarray[tuple[int, int], np.dtype[np.bool_]]]:
    """Where the events after each support set stand in the data's columns, and which of them there are."""
    begin = cuts.starts + cuts.counts
    column = np.arange(size)[None, :]
    mask = column < (data.lengths[cuts.users] - begin)[:, None]
    return np.where(mask, data.offsets[cuts.users][:, None] + begin[:, None] + column, 0), mask


def events_so_far(data: TrainingData, cuts: Cuts) -> list[IntArray]:
    """Items of all events before each query, those before the support set included."""
    first = data.offsets[cuts.users]
    ends = first + cuts.starts + cuts.counts
    return [data.items[a:b] for a, b in zip(first, ends, strict=True)]


def excluded(so_far: Sequence[IntArray], num_items: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """[B, num_items] uint8: 1 where the person has had the item."""
    table = np.zeros((len(so_far), num_items), np.uint8)
    rows = np.repeat(np.arange(len(so_far)), [len(items) for items in so_far])
    if len(rows):
        table[rows, np.concatenate(so_far)] = 1
    return table
