"""Ids that are the same in every import."""

from __future__ import annotations

from dataclasses import replace

from shared.datasets.event_ids import EventIds
from shared.domain import Action, Event

EVENT = Event("u", "i", Action.RATING, 4.0, 1000)


def test_the_same_event_has_the_same_id_in_every_import():
    assert EventIds().of(EVENT) == EventIds().of(EVENT)


def test_every_field_takes_part():
    changed = [
        replace(EVENT, user_id="v"),
        replace(EVENT, item_id="j"),
        replace(EVENT, action=Action.DWELL),
        replace(EVENT, value=4.5),
        replace(EVENT, time_ms=1001),
        replace(EVENT, user_id="ui", item_id=""),  # a shifted boundary is another event
    ]
    ids = EventIds()
    assert len({ids.of(e) for e in [EVENT, *changed]}) == 7


def test_exact_repeats_are_different_events_and_the_same_ones_in_the_next_import():
    first, second = EventIds(), EventIds()
    once = [first.of(EVENT) for _ in range(3)]
    again = [second.of(EVENT) for _ in range(3)]
    assert len(set(once)) == 3
    assert once == again


def test_an_id_fits_the_contract():
    assert len(EventIds().of(EVENT).encode()) <= 128
