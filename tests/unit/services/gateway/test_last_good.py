from __future__ import annotations

import numpy as np

from services.gateway.draft import Ranking
from services.gateway.last_good import LastGoodLists
from tests.traces import remembered


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ranking(*scores: float) -> Ranking:
    base = np.array(scores, np.float32)
    ids = tuple(f"i{n}" for n in range(len(scores)))
    return Ranking(ids, base, base + 5, ("next",), base[:, None], None)


def lists(clock: Clock | None = None, **changes: int) -> LastGoodLists:
    return LastGoodLists(**({"people": 2, "items": 2} | changes), age_s=60.0, clock=clock or Clock())


def test_the_best_items_are_kept_with_their_scores_before_boosts() -> None:
    kept = lists()
    kept.keep("d", "ann", ranking(1.0, 3.0, float("nan"), 2.0), since=0)
    best = kept.get("d", "ann")
    assert best is not None
    assert best.item_ids == ("i1", "i3")
    assert best.scores.tolist() == [3.0, 2.0]
    assert kept.get("d", "bob") is None
    assert kept.get("other", "ann") is None


def test_the_least_recent_person_goes_first() -> None:
    kept = lists()
    for user_id in ("ann", "bob", "ann", "eve"):
        kept.keep("d", user_id, ranking(1.0), since=0)
    assert kept.get("d", "bob") is None
    assert kept.get("d", "ann") is not None
    assert len(kept) == 2


def test_old_lists_are_not_used() -> None:
    clock = Clock()
    kept = lists(clock)
    kept.keep("d", "ann", ranking(1.0), since=0)
    clock.now = 61.0
    assert kept.get("d", "ann") is None
    assert len(kept) == 0


def test_feedback_forgets_and_a_list_begun_before_it_is_not_kept() -> None:
    kept = lists()
    begun = kept.moment
    kept.keep("d", "ann", ranking(1.0), since=begun)
    kept.forget("d", "ann")
    assert kept.get("d", "ann") is None
    kept.keep("d", "ann", ranking(1.0), since=begun)
    assert kept.get("d", "ann") is None
    kept.keep("d", "ann", ranking(1.0), since=kept.moment)
    assert kept.get("d", "ann") is not None


def test_lists_that_are_too_old_leave_the_memory_with_any_other_list() -> None:
    clock = Clock()
    kept = lists(clock)
    kept.keep("d", "ann", ranking(1.0), since=0)
    clock.now = 61.0
    kept.keep("d", "bob", ranking(1.0), since=0)
    assert len(kept) == 1


def test_nobodys_id_is_in_its_memory() -> None:
    kept = lists()
    kept.keep("d", "ann-the-traveller", ranking(1.0), since=0)
    kept.forget("d", "bea-the-traveller")
    assert remembered(kept, "traveller") == []


def test_nothing_is_kept_where_no_people_are_allowed() -> None:
    kept = lists(people=0)
    kept.keep("d", "ann", ranking(1.0), since=0)
    kept.forget("d", "ann")
    assert len(kept) == 0
