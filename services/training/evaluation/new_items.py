"""Items held out of training entirely, then added by text alone: do they reach those whom they fit?

For each new item, every held-out person's list is ranked from their first events. The item fits a person
where its text is near the items that they like later (their held-out likes): the tenth of all people
with the highest similarity. Those who later like the very item are a second, harder group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.training.data import BoolArray, HeldOutItems, TrainingData
from services.training.evaluation.metrics import Float64Array
from services.training.evaluation.protocol import Questions, ask, contexts, fitting_protocol
from services.training.evaluation.served import ServedArtifact
from services.training.roles import choose_by_hash
from shared.domain import FloatArray, IntArray, TimeArray
from shared.holdout import Role
from shared.vectors import unit_rows

LIKED = 0.8
_FITTING_SHARE = 0.1
_MIN_LIKES = 5
_MOST_PEOPLE = 1000


@dataclass(frozen=True, slots=True)
class NewItems:
    """Median rank percentiles (0 = first place, 1 = last), over pairs of person and new item.

    fitting: the item resembles the person's held-out likes; others: all other pairs; liked: the person
    later liked the very item; not_liked: all but these.
    """

    items: int
    people: int
    fitting: float
    others: float
    liked: float
    not_liked: float
    liked_pairs: int


def choose_new_items(data: TrainingData, count: int) -> IntArray:
    """Items with text and at least five likes, chosen by the hash of their id. [≤ count] int32."""
    likes = np.bincount(data.items[data.labels >= LIKED], minlength=data.num_items)
    able = (np.linalg.norm(data.content, axis=1) > 0) & (likes >= _MIN_LIKES)
    place = {item_id: number for number, item_id in enumerate(data.item_ids)}
    chosen = choose_by_hash((data.item_ids[n] for n in np.flatnonzero(able)), count, "new-item")
    return np.array(sorted(place[i] for i in chosen), np.int32)


def evaluate_new_items(
    data: TrainingData, new: HeldOutItems, served: ServedArtifact, *, task: str
) -> NewItems:
    """data: without the new items, with the held-out people; served: trained on it.

    The new items are added to `served` as a server would: rows made from content.
    """
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people), _MOST_PEOPLE)
    served.add_items(new.item_ids, new.content)
    percentiles = _percentiles(data, questions, served, new, task)
    similar = _similarity_to_later_likes(data, questions, new)
    liked = _liked(questions, new)
    usable = ~_known_before(questions, new)
    bound = np.quantile(similar, 1.0 - _FITTING_SHARE, axis=0) if len(questions) else np.zeros(0)
    fits = (similar >= bound) & (similar > 0)
    return NewItems(
        items=len(new.item_ids),
        people=len(questions),
        fitting=_median(percentiles[usable & fits]),
        others=_median(percentiles[usable & ~fits]),
        liked=_median(percentiles[usable & liked]),
        not_liked=_median(percentiles[usable & ~liked]),
        liked_pairs=int((usable & liked).sum()),
    )


def _percentiles(
    data: TrainingData, questions: Questions, served: ServedArtifact, new: HeldOutItems, task: str
) -> Float64Array:
    """[B, M]: share of the catalogue (what the person has seen left out) that scores higher than the item."""
    rows = served.rows([*data.item_ids, *new.item_ids])
    people = contexts(data, questions, questions.protocol.first_events)
    found = served.scores(people, rows, task=task)
    known, added = np.split(found, [len(data.item_ids)], axis=1)
    result = np.zeros(added.shape)
    for row, seen in enumerate(questions.masked):
        rivals = np.sort(np.delete(known[row], seen))
        higher = len(rivals) - np.searchsorted(rivals, added[row], side="right")
        result[row] = higher / max(1, len(rivals))
    return result


def _similarity_to_later_likes(data: TrainingData, questions: Questions, new: HeldOutItems) -> FloatArray:
    """[B, M]: cosine of each new item's text and the mean text of each person's likes after the support."""
    likes = data.labels >= LIKED
    profiles = np.zeros((len(questions), data.content.shape[1]), np.float32)
    for row, (user, middle) in enumerate(zip(questions.users, questions.middles, strict=True)):
        part = slice(middle, data.offsets[user + 1])
        profiles[row] = data.content[data.items[part][likes[part]]].sum(axis=0)
    similar: FloatArray = unit_rows(profiles) @ new.content.T
    return similar


def _liked(questions: Questions, new: HeldOutItems) -> BoolArray:
    """[B, M]: the person liked the item after the support."""
    later = new.time_ms >= _moments_of(questions, new.users)
    return _pairs(questions, new, later & (new.labels >= LIKED))


def _known_before(questions: Questions, new: HeldOutItems) -> BoolArray:
    """[B, M]: the person had the item before the query, so its rank for them says nothing."""
    return _pairs(questions, new, new.time_ms < _moments_of(questions, new.users))


def _moments_of(questions: Questions, users: IntArray) -> TimeArray:
    """When each person's query begins; 0 for people who are not asked. [n] int64."""
    moments = dict(zip(questions.users.tolist(), questions.moments.tolist(), strict=True))
    return np.array([moments.get(user, 0) for user in users.tolist()], np.int64)


def _pairs(questions: Questions, new: HeldOutItems, chosen: BoolArray) -> BoolArray:
    """[B, M]: whether one of the chosen events is the person's on the item."""
    row_of = {user: row for row, user in enumerate(questions.users.tolist())}
    table = np.zeros((len(questions), len(new.item_ids)), np.bool_)
    for user, item in zip(new.users[chosen].tolist(), new.items[chosen].tolist(), strict=True):
        if user in row_of:
            table[row_of[user], item] = True
    return table


def _median(values: Float64Array) -> float:
    return float(np.median(values)) if len(values) else float("nan")
