"""The latest reaction to an item is the one that counts."""

from __future__ import annotations

import numpy as np
import pytest

from shared.context.standing import standing_labels, standing_places
from shared.domain import Action

VIEW, CLICK, LIKE, DISLIKE = Action.VIEW, Action.CLICK, Action.LIKE, Action.DISLIKE
PURCHASE, RATING, SKIP, DWELL = Action.PURCHASE, Action.RATING, Action.SKIP, Action.DWELL


@pytest.mark.parametrize(
    ("actions", "stand"),
    [
        ([VIEW, DISLIKE], [1]),
        ([VIEW, CLICK, DWELL, DISLIKE], [3]),
        ([LIKE, DISLIKE], [1]),
        ([DISLIKE, LIKE], [1]),
        ([DISLIKE, VIEW, CLICK], [0]),  # to look again takes nothing back
        ([LIKE, VIEW], [0]),
        ([LIKE, SKIP], [0]),
        ([RATING, RATING], [1]),
        ([PURCHASE, RATING], [1]),
        ([PURCHASE, VIEW, PURCHASE], [0, 2]),
        ([VIEW, SKIP], [1]),
        ([SKIP, CLICK], [1]),
        ([SKIP, SKIP], [1]),
        ([VIEW, DWELL, VIEW], [0, 1, 2]),
    ],
)
def test_of_the_events_on_one_item_those_stand_that_nothing_replaced(
    actions: list[int], stand: list[int]
) -> None:
    assert standing_places(["i"] * len(actions), actions) == stand
    # Other items between them change nothing.
    items = [name for n in range(len(actions)) for name in ("i", f"other{n}")]
    mixed = [action for own in actions for action in (own, VIEW)]
    places = standing_places(items, mixed)
    assert [p // 2 for p in places if p % 2 == 0] == stand
    assert [p for p in places if p % 2] == list(range(1, len(items), 2))


def test_what_no_longer_stands_has_no_label() -> None:
    actions = np.array([LIKE, LIKE, DISLIKE], np.int32)
    labels = standing_labels(("a", "b", "a"), actions, np.zeros(3, np.float32))
    assert labels.tolist() == [0.0, 1.0, -1.0]
