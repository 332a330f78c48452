"""Contexts → padded model inputs, worked by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import pytest

from shared.context.batch import ModelInputs, bucket_for, build_inputs
from shared.context.vectors import PROFILE_DIM, REQUEST_DIM, attribute_vector, request_vector
from shared.domain import Action, Event, FloatArray, History, RequestContext, UserContext


@dataclass(frozen=True)
class Rows:
    """Item a: input row [1,1], support row [10]; b: [2,2], [20]; c: [3,3], [30]."""

    index: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 1, "c": 2})
    input_rows: FloatArray = field(default_factory=lambda: np.array([[1, 1], [2, 2], [3, 3]], np.float32))
    support_rows: FloatArray = field(default_factory=lambda: np.array([[10], [20], [30]], np.float32))


def context(*events: tuple[str, Action, float, int], now_ms: int = 0, **changes: object) -> UserContext:
    history = History.of([Event("ada", i, a, v, t) for i, a, v, t in events])
    given: dict[str, object] = {
        "user_id": "ada",
        "history": history,
        "content_profile": np.array([0.5, 0.5], np.float32),
        "social_profile": np.zeros(2, np.float32),
        "request": RequestContext(time_ms=now_ms),
    }
    return UserContext(**(given | changes))  # type: ignore[arg-type]


LIKED_A_RATED_B = (("a", Action.LIKE, 0.0, 1_000), ("b", Action.RATING, 2.0, 4_000))


def test_the_latest_event_sits_at_the_last_place() -> None:
    inputs = build_inputs([context(*LIKED_A_RATED_B, now_ms=6_000)], Rows(), (4, 8))
    np.testing.assert_array_equal(inputs.actions, [[0, 0, 4, 7]])
    np.testing.assert_array_equal(inputs.mask, [[0, 0, 1, 1]])
    np.testing.assert_array_equal(inputs.values, [[0, 0, 0, 2]])
    np.testing.assert_allclose(inputs.labels, [[0, 0, 1, -0.6]], rtol=1e-6)
    np.testing.assert_array_equal(inputs.input_rows, [[[0, 0], [0, 0], [1, 1], [2, 2]]])
    np.testing.assert_array_equal(inputs.support_rows, [[[0], [0], [10], [20]]])
    np.testing.assert_array_equal(inputs.shots, [2])


def test_ages_run_from_the_event_to_the_request() -> None:
    """5 s and 2 s before 6,000 ms; a request without a time counts from the latest event."""
    asked = build_inputs([context(*LIKED_A_RATED_B, now_ms=6_000)], Rows(), (2,))
    np.testing.assert_array_equal(asked.ages_s, [[5, 2]])
    unasked = build_inputs([context(*LIKED_A_RATED_B)], Rows(), (2,))
    np.testing.assert_array_equal(unasked.ages_s, [[3, 0]])


def test_an_event_after_the_request_has_age_zero() -> None:
    inputs = build_inputs([context(("a", Action.LIKE, 0.0, 9_000), now_ms=6_000)], Rows(), (1,))
    np.testing.assert_array_equal(inputs.ages_s, [[0]])


def test_events_on_unknown_items_are_skipped_and_are_no_shots() -> None:
    inputs = build_inputs(
        [context(("a", Action.LIKE, 0.0, 1), ("new", Action.LIKE, 0.0, 2), ("c", Action.VIEW, 0.0, 3))],
        Rows(),
        (4,),
    )
    np.testing.assert_array_equal(inputs.actions, [[0, 0, 4, 2]])
    np.testing.assert_array_equal(inputs.shots, [2])


def test_the_latest_events_are_kept_where_there_are_more_than_places() -> None:
    events = [("a", Action.VIEW, 0.0, 1), ("b", Action.CLICK, 0.0, 2), ("c", Action.LIKE, 0.0, 3)]
    inputs = build_inputs([context(*events)], Rows(), (1, 2))
    np.testing.assert_array_equal(inputs.actions, [[3, 4]])


def test_unknown_items_do_not_push_known_ones_out() -> None:
    events = [("a", Action.LIKE, 0.0, 1), *((f"new{i}", Action.VIEW, 0.0, 2 + i) for i in range(9))]
    inputs = build_inputs([context(*events)], Rows(), (2,))
    np.testing.assert_array_equal(inputs.mask, [[0, 1]])


def test_one_batch_is_padded_to_its_longest_history() -> None:
    one = context(("a", Action.LIKE, 0.0, 1))
    inputs = build_inputs([one, context(*LIKED_A_RATED_B, ("c", Action.SKIP, 0.0, 9_000))], Rows(), (2, 4, 8))
    np.testing.assert_array_equal(inputs.mask, [[0, 0, 0, 1], [0, 1, 1, 1]])


def test_padding_does_not_depend_on_who_else_is_in_the_batch() -> None:
    alone = build_inputs([context(*LIKED_A_RATED_B)], Rows(), (4,))
    together = build_inputs([context(*LIKED_A_RATED_B), context()], Rows(), (4,))
    for name, array in alone.as_dict().items():
        np.testing.assert_array_equal(array[0], together.as_dict()[name][0], err_msg=name)


def test_a_stranger_is_all_padding_but_keeps_profile_and_request() -> None:
    asked = RequestContext("phone", "home", 5)
    stranger = context(attributes={"age": "25"}, request=asked)
    inputs = build_inputs([stranger], Rows(), (2, 4))
    assert inputs.mask.shape == (1, 2)
    assert inputs.mask.sum() == 0
    assert inputs.input_rows.sum() == 0
    np.testing.assert_array_equal(inputs.attributes[0], attribute_vector({"age": "25"}))
    np.testing.assert_array_equal(inputs.request[0], request_vector(asked))
    np.testing.assert_array_equal(inputs.content_profile, [[0.5, 0.5]])
    np.testing.assert_array_equal(inputs.shots, [0])


def test_a_history_of_unknown_items_only_is_a_strangers() -> None:
    inputs = build_inputs([context(("new", Action.LIKE, 0.0, 1))], Rows(), (2,))
    np.testing.assert_array_equal(inputs.mask, [[0, 0]])


def test_inputs_go_by_the_names_and_types_of_the_signature() -> None:
    inputs = build_inputs([context(*LIKED_A_RATED_B)], Rows(), (2,)).as_dict()
    assert list(inputs) == [f.name for f in fields(ModelInputs) if f.name != "item_ids"]
    assert {name: array.dtype for name, array in inputs.items() if array.dtype != np.float32} == {
        "actions": np.dtype(np.int32)
    }
    assert inputs["attributes"].shape == (1, PROFILE_DIM)
    assert inputs["request"].shape == (1, REQUEST_DIM)


def test_the_items_of_the_events_that_are_kept_go_along() -> None:
    found = build_inputs([context(*LIKED_A_RATED_B), context(("new", Action.LIKE, 0.0, 1))], Rows(), (2,))
    assert found.item_ids == (("a", "b"), ())


@pytest.mark.parametrize(("events", "bucket"), [(0, 8), (8, 8), (9, 32), (32, 32), (33, 64), (500, 64)])
def test_the_smallest_bucket_that_holds_the_events(events: int, bucket: int) -> None:
    assert bucket_for(events, (8, 32, 64)) == bucket


def test_a_dislike_after_a_view_is_a_dislike_alone() -> None:
    """The view is no shot any more, and the like of another item stays."""
    looked = (
        ("b", Action.LIKE, 0.0, 1_000),
        ("a", Action.VIEW, 0.0, 2_000),
        ("a", Action.DISLIKE, 0.0, 3_000),
    )
    both = build_inputs([context(*looked, now_ms=6_000)], Rows(), (4,)).as_dict()
    alone = build_inputs([context(looked[0], looked[2], now_ms=6_000)], Rows(), (4,)).as_dict()
    for name, expected in alone.items():
        np.testing.assert_array_equal(both[name], expected, err_msg=name)
    np.testing.assert_array_equal(both["actions"], [[0, 0, Action.LIKE, Action.DISLIKE]])
