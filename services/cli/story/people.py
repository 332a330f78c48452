"""Held-out people: whom no model of the line was trained on, by the same hash that training goes by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from warmstart.common.v1 import event_pb2

from shared.context.labels import signed_labels
from shared.datasets import Dataset, accepted
from shared.domain import Event, User
from shared.holdout import Role, role_of
from shared.rpc.codec import encode_event

SUPPORT_EVENTS = 20
MIN_EVENTS = 30
_POSITIVE_LABEL = 0.5


@dataclass(frozen=True, slots=True)
class HeldOutPerson:
    """support: their first 20 events; likes: items of positive events after these; known: every item they
    ever acted on."""

    user: User
    support: tuple[Event, ...]
    likes: frozenset[str]
    known: frozenset[str]

    @property
    def asked_ms(self) -> int:
        """The moment of the request: just after the support events."""
        return self.support[-1].time_ms + 1

    def carried(self) -> list[event_pb2.Event]:
        """The support events, to be carried by a request of somebody else."""
        carried = []
        for event in self.support:
            message = encode_event(event)
            message.user_id = ""
            message.event_id = ""
            carried.append(message)
        return carried


def held_out_people(dataset: Dataset) -> list[HeldOutPerson]:
    """By id; those with at least 30 events."""
    by_user: dict[str, list[Event]] = defaultdict(list)
    for event in accepted(dataset.events()):
        if role_of(event.user_id) is Role.HELD_OUT:
            by_user[event.user_id].append(event)
    users = {user.user_id: user for user in accepted(dataset.users()) if user.user_id in by_user}
    return [
        _person(users.get(user_id, User(user_id)), events)
        for user_id, events in sorted(by_user.items())
        if len(events) >= MIN_EVENTS
    ]


def positive_items(events: Iterable[Event]) -> set[str]:
    """Items of events that pull, by the same labels that the adapter reads."""
    listed = list(events)
    labels = signed_labels(
        np.array([e.action for e in listed], np.int32), np.array([e.value for e in listed], np.float32)
    )
    return {e.item_id for e, label in zip(listed, labels, strict=True) if label >= _POSITIVE_LABEL}


def _person(user: User, events: Sequence[Event]) -> HeldOutPerson:
    ordered = sorted(events, key=lambda e: e.time_ms)  # stable: ties keep the file's order
    support, later = ordered[:SUPPORT_EVENTS], ordered[SUPPORT_EVENTS:]
    return HeldOutPerson(
        user, tuple(support), frozenset(positive_items(later)), frozenset(e.item_id for e in ordered)
    )
