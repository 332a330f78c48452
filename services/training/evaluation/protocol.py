"""Who is asked what. The few-shot protocol: people never trained on, the latest k of their first events
as support, their next events as query, all first events masked at every k. Where histories are short, the
query is a person's last events instead, and all before them are the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from services.training.asof import social_profiles
from services.training.data import Int64Array, TrainingData
from services.training.roles import choose_by_hash
from shared.context.profiles import content_profile
from shared.context.standing import standing_labels
from shared.domain import Action, FloatArray, History, IntArray, RequestContext, TimeArray, UserContext

SHOTS = (0, 1, 2, 5, 10, 20)
SHORT_SHOTS = (0, 1, 2, 3)
# From the protocol of the published table down to what tiny data sets allow.
_SHAPES = ((20, 10), (10, 10), (10, 5), (5, 5), (3, 2), (1, 1))
_ENOUGH_PEOPLE = 30
# Whoever has fewer can be asked by no protocol, nor trained on.
FEWEST_EVENTS = min(first + query for first, query in _SHAPES)


@dataclass(frozen=True, slots=True)
class Protocol:
    """Support from the first `first_events`, query from the `query_events` after them.

    at_end: the query is the last `query_events` of each person, the support comes from all before, and
    `first_events` is how many of those a person must have to be asked. numbers: of support events, where
    there are so many.
    """

    first_events: int = 20
    query_events: int = 10
    at_end: bool = False
    numbers: tuple[int, ...] = SHOTS

    @property
    def needed_events(self) -> int:
        return self.first_events + self.query_events

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of support events that can be asked."""
        return tuple(k for k in self.numbers if k <= self.first_events)

    def as_asked(self) -> dict[str, Any]:
        """As plain values, with the numbers that were asked alone."""
        return {**asdict(self), "numbers": list(self.shots)}

    @classmethod
    def of_last(cls, query_events: int) -> Protocol:
        """The last so many events asked, after up to three."""
        return cls(SHORT_SHOTS[-1], query_events, at_end=True, numbers=SHORT_SHOTS)

    def query_places(self, data: TrainingData, users: IntArray) -> Int64Array:
        """Place in the data's columns of each person's first query event. [B] int64."""
        if self.at_end:
            return data.offsets[users + 1] - self.query_events
        return data.offsets[users] + self.first_events


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """B people of one evaluation.

    users: [B] int32; middles: [B] int64, the first query event's place in the data's columns; masked: B
    arrays, the items of the events before; relevant: B arrays, the query's items that are not masked;
    moments: [B] int64, time of the first query event.
    """

    protocol: Protocol
    users: IntArray
    middles: Int64Array
    masked: Sequence[IntArray]
    relevant: Sequence[IntArray]
    moments: TimeArray

    def __len__(self) -> int:
        return len(self.users)


def fitting_protocol(data: TrainingData, users: IntArray) -> Protocol:
    """The longest protocol that 30 of the people have events for, or half of them where they are few."""
    enough = min(_ENOUGH_PEOPLE, max(1, (len(users) + 1) // 2))
    for first, query in _SHAPES:
        if np.count_nonzero(data.lengths[users] >= first + query) >= enough:
            return Protocol(first, query)
    return Protocol(*_SHAPES[-1])


def ask(data: TrainingData, users: IntArray, protocol: Protocol, most: int = 5000) -> Questions:
    """Questions to those of the people who have enough events; to at most so many, chosen by hash."""
    able = users[data.lengths[users] >= protocol.needed_events]
    if len(able) > most:
        place = {data.user_ids[u]: u for u in able}
        able = np.array(sorted(place[i] for i in choose_by_hash(place, most, "asked")), np.int32)
    able = able.astype(np.int32)
    middles = protocol.query_places(data, able)
    masked, relevant = [], []
    for start, middle in zip(data.offsets[able], middles, strict=True):
        seen = np.unique(data.items[start:middle])
        masked.append(seen)
        relevant.append(np.setdiff1d(data.items[middle : middle + protocol.query_events], seen))
    return Questions(protocol, able, middles, masked, relevant, data.time_ms[middles])


def support_items(data: TrainingData, questions: Questions, shots: int) -> list[IntArray]:
    """Item numbers of each person's support, oldest first."""
    return [data.items[end - shots : end] for end in questions.middles]


def contexts(data: TrainingData, questions: Questions, shots: int) -> list[UserContext]:
    """What serving would know of each person after `shots` events: nothing else of their past."""
    social = social_profiles(data, questions.users, questions.moments)
    return [
        context_of(data, int(user), Past.of(data, end - shots, end), profile, int(moment))
        for user, end, profile, moment in zip(
            questions.users, questions.middles, social, questions.moments, strict=True
        )
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Events as columns, oldest first: item numbers, actions, values, times. [n] each."""

    items: IntArray
    actions: IntArray
    values: FloatArray
    time_ms: TimeArray

    @classmethod
    def of(cls, data: TrainingData, start: int, end: int) -> Past:
        """The events at `start:end` of the data's columns."""
        part = slice(start, end)
        return cls(data.items[part], data.actions[part], data.values[part], data.time_ms[part])

    def then(self, item: int, action: Action, time_ms: int, value: float = 0.0) -> Past:
        """These events and one more."""
        return Past(
            np.append(self.items, np.int32(item)),
            np.append(self.actions, np.int32(action)),
            np.append(self.values, np.float32(value)),
            np.append(self.time_ms, np.int64(time_ms)),
        )


def context_of(
    data: TrainingData, user: int, past: Past, social_profile: FloatArray, moment_ms: int
) -> UserContext:
    """One person's context with a past; the content profile is made from that past alone."""
    labels = standing_labels(past.items.tolist(), past.actions, past.values)
    return UserContext(
        user_id=data.user_ids[user],
        history=History(tuple(data.item_ids[i] for i in past.items), past.actions, past.values, past.time_ms),
        content_profile=content_profile(data.content[past.items], labels, past.time_ms, moment_ms),
        social_profile=social_profile,
        attributes=data.profiles[user],
        total_events=len(past.items),
        request=RequestContext(time_ms=moment_ms),
    )
