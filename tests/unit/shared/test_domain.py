"""Value types."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from shared.domain import Action, AdaptedUser, Event, History, Item, ModelRef, User


def event(item_id: str, time_ms: int, action: Action = Action.VIEW, value: float = 0.0) -> Event:
    return Event("ada", item_id, action, value, time_ms)


def test_a_history_is_oldest_first_and_ties_keep_their_order() -> None:
    history = History.of([event("c", 30), event("a", 10), event("b2", 20), event("b1", 20)])
    assert history.item_ids == ("a", "b2", "b1", "c")
    np.testing.assert_array_equal(history.time_ms, [10, 20, 20, 30])


def test_the_columns_of_a_history_have_their_types() -> None:
    history = History.of([event("a", 1, Action.RATING, 4.0)])
    assert (history.actions.dtype, history.values.dtype, history.time_ms.dtype) == (
        np.int32,
        np.float32,
        np.int64,
    )
    np.testing.assert_array_equal(history.actions, [7])
    np.testing.assert_array_equal(history.values, [4.0])


@pytest.mark.parametrize(("n", "ids"), [(0, ()), (2, ("b", "c")), (3, ("a", "b", "c")), (9, ("a", "b", "c"))])
def test_the_last_events_of_a_history(n: int, ids: tuple[str, ...]) -> None:
    last = History.of([event("a", 1), event("b", 2), event("c", 3)]).last(n)
    assert last.item_ids == ids
    assert len(last) == len(last.actions) == len(last.values) == len(last.time_ms) == len(ids)


def test_an_empty_history_is_like_one_of_no_events() -> None:
    empty, none = History.empty(), History.of([])
    assert len(empty) == len(none) == 0
    assert empty.time_ms.dtype == none.time_ms.dtype


def test_a_query_is_found_by_its_task() -> None:
    queries = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    user = AdaptedUser(ModelRef("default", "v1"), ("next", "like"), queries, shots=2)
    np.testing.assert_array_equal(user.query("like"), [3.0, 4.0])
    with pytest.raises(KeyError, match="no task 'buy'; tasks: next, like"):
        user.query("buy")


def test_values_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        event("a", 1).value = 2.0  # type: ignore[misc]
    for attributes in (Item("i").attributes, User("u").attributes):
        with pytest.raises(TypeError):
            attributes["x"] = "y"  # type: ignore[index]
