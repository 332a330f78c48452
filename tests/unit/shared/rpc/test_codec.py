"""Messages ↔ domain: good values come through whole, each broken rule is named by its path."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from warmstart.common.v1 import event_pb2, item_pb2, model_pb2, tensor_pb2, user_pb2

from shared.datasets.event_ids import EventIds
from shared.domain import (
    Action,
    AdaptedUser,
    AttributeCondition,
    Calibration,
    CategoryShare,
    Event,
    Exposure,
    HeldModel,
    History,
    Item,
    ItemFilter,
    Link,
    ModelRef,
    Relation,
    RequestContext,
    TaskInfo,
    Trail,
    Uncertainty,
    User,
    UserContext,
)
from shared.errors import InvalidInput, TooLarge
from shared.rpc import codec

NOW_MS = 1_700_000_000_000
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\x7f"),
    min_size=1,
    max_size=20,
)
TIMES = st.integers(1, NOW_MS)
ATTRIBUTES = st.dictionaries(WORDS, WORDS, max_size=5)
EXPOSURES = st.builds(Exposure, WORDS, st.integers(0, 1000), st.floats(0.0, 1.0), WORDS, WORDS, WORDS)
VALUES_OF = {Action.RATING: st.floats(1.0, 5.0, width=32), Action.DWELL: st.floats(0.0, 3600.0, width=32)}


@st.composite
def events(draw: st.DrawFn) -> Event:
    action = draw(st.sampled_from(Action))
    value = draw(VALUES_OF.get(action, FLOATS))
    exposure = draw(st.none() | EXPOSURES)
    return Event(draw(WORDS), draw(WORDS), action, value, draw(TIMES), draw(WORDS), exposure)


@st.composite
def histories(draw: st.DrawFn) -> History:
    return History.of(draw(st.lists(events(), max_size=6)))


def vectors(dim: int) -> st.SearchStrategy[Any]:
    return npst.arrays(np.float32, dim, elements=st.floats(-1000.0, 1000.0, width=32))


CONTEXTS = st.builds(
    UserContext,
    WORDS,
    histories(),
    vectors(4),
    vectors(4),
    ATTRIBUTES,
    st.lists(st.builds(CategoryShare, WORDS, st.floats(0, 1, width=32)), max_size=3).map(tuple),
    st.integers(0, 1 << 40),
    st.builds(RequestContext, WORDS, WORDS, TIMES),
)


def refusal(error: type[InvalidInput], decode: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        decode(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


class TestRoundTrips:
    @given(events())
    def test_events(self, event: Event) -> None:
        assert codec.decode_event(codec.encode_event(event), field="e", now_ms=NOW_MS) == event

    @given(
        st.builds(
            Item,
            WORDS,
            WORDS,
            st.text(st.characters(codec="utf-8"), max_size=50),
            st.lists(WORDS, max_size=4).map(tuple),
            ATTRIBUTES,
            st.booleans(),
            TIMES,
        )
    )
    def test_items(self, item: Item) -> None:
        assert codec.decode_item(codec.encode_item(item), field="i") == item

    @given(st.builds(User, WORDS, ATTRIBUTES))
    def test_users(self, user: User) -> None:
        assert codec.decode_user(codec.encode_user(user), field="u") == user

    @given(st.floats(0.0, 1.0, exclude_min=True, width=32), st.booleans())
    def test_relations(self, weight: float, removed: bool) -> None:
        relation = Relation("ada", "bob", "trusts", weight, 7, removed)
        assert codec.decode_relation(codec.encode_relation(relation), field="r") == relation

    @given(CONTEXTS)
    def test_contexts(self, context: UserContext) -> None:
        got = codec.decode_context(codec.encode_context(context), field="context", content_dim=4)
        assert got.history.item_ids == context.history.item_ids
        for name in ("actions", "values", "time_ms"):
            column, expected = getattr(got.history, name), getattr(context.history, name)
            assert column.dtype == expected.dtype
            np.testing.assert_array_equal(column, expected)
        np.testing.assert_array_equal(got.content_profile, context.content_profile)
        np.testing.assert_array_equal(got.social_profile, context.social_profile)
        for name in ("user_id", "attributes", "categories", "total_events", "request"):
            assert getattr(got, name) == getattr(context, name)

    @given(
        npst.arrays(
            st.sampled_from([np.float32, np.float16, np.int32, np.int64]),
            npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        )
    )
    def test_tensors(self, array: Any) -> None:
        got = codec.decode_tensor(codec.encode_tensor(array), field="t")
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got, array)

    def test_adapted_users(self) -> None:
        queries = np.arange(12, dtype=np.float32).reshape(2, 6)
        factor = np.arange(6, dtype=np.float32).reshape(2, 3)
        user = AdaptedUser(ModelRef("shop", "v1"), ("next", "like"), queries, 5, Uncertainty(factor, 0.5, 3))
        got = codec.decode_adapted_user(codec.encode_adapted_user(user), field="user")
        assert (got.model, got.tasks, got.shots) == (user.model, user.tasks, user.shots)
        np.testing.assert_array_equal(got.queries, queries)
        assert got.uncertainty is not None
        np.testing.assert_array_equal(got.uncertainty.factor, factor)
        assert (got.uncertainty.scale, got.uncertainty.offset) == (0.5, 3)

    def test_an_adapter_without_a_posterior_stays_without(self) -> None:
        user = AdaptedUser(ModelRef("shop", "v1"), ("next",), np.zeros((1, 2), np.float32), 0)
        got = codec.decode_adapted_user(codec.encode_adapted_user(user), field="u")
        assert (got.uncertainty, got.trail) == (None, None)

    def test_trails(self) -> None:
        trail = Trail(("a", "b"), np.array([0.25, 0.75], np.float32))
        user = AdaptedUser(ModelRef("d", "v"), ("t",), np.zeros((1, 2), np.float32), 2, trail=trail)
        got = codec.decode_adapted_user(codec.encode_adapted_user(user), field="user").trail
        assert got is not None
        assert got.item_ids == trail.item_ids
        np.testing.assert_array_equal(got.weights, trail.weights)

    def test_held_models(self) -> None:
        knots = (Calibration(0, 0.5, -2.0), Calibration(5, 1.5, -4.0))
        stars = TaskInfo("rating", 3.5, default_weight=0.0, bounds=(1.0, 5.0))
        tasks = (TaskInfo("next"), TaskInfo("like", -0.5, Link.SIGMOID, 0.25, knots), stars)
        held = HeldModel(ModelRef("default", "v2"), tasks, 1682)
        assert codec.decode_held_model(codec.encode_held_model(held), field="m") == held

    def test_filters(self) -> None:
        wanted = ItemFilter(
            frozenset({"a", "b"}),
            frozenset({"c"}),
            frozenset({"d"}),
            (AttributeCondition("brand", frozenset({"x"}), True),),
            9,
        )
        assert codec.decode_filter(codec.encode_filter(wanted), field="filter") == wanted
        assert codec.decode_filter(item_pb2.ItemFilter(), field="filter") == ItemFilter()


def event(**changes: Any) -> event_pb2.Event:
    good: dict[str, Any] = {"user_id": "ada", "item_id": "i1", "action": 4, "time_ms": NOW_MS}
    return event_pb2.Event(**(good | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": ""}, "events[3].user_id must be 1..256 bytes, got ''"),
        ({"item_id": "a\x00b"}, "events[3].item_id must not hold control characters, got 'a\\x00b'"),
        ({"action": 0}, "events[3].action must be one of 1 (IMPRESSION), 2 (VIEW)"),
        ({"action": 99}, "9 (DWELL), got 99"),
        ({"value": math.nan}, "events[3].value must be finite, got nan"),
        ({"value": 1e300}, "events[3].value must fit 32 bits, as histories keep it, got 1e+300"),
        ({"action": 7, "value": 5.5}, "events[3].value must be 1..5 for a rating, got 5.5"),
        ({"action": 9, "value": -1.0}, "events[3].value must be 0..604800 seconds for a dwell, got -1.0"),
        ({"time_ms": -1}, "events[3].time_ms must be 0 (now) or milliseconds since 1970"),
        ({"time_ms": NOW_MS + 300_001}, "at most 5 minutes ahead, got 1700000300001"),
        ({"event_id": "x" * 129}, "events[3].event_id must be at most 128 bytes"),
        ({"exposure": {"propensity": 1.5}}, "events[3].exposure.propensity must be 0 (unknown)..1, got 1.5"),
        ({"exposure": {"position": -1}}, "events[3].exposure.position must be at least 0, got -1"),
    ],
)
def test_a_broken_event_names_field_rule_and_value(changes: dict[str, Any], message: str) -> None:
    said = refusal(InvalidInput, codec.decode_event, event(**changes), field="events[3]", now_ms=NOW_MS)
    assert message in said


def test_all_broken_fields_of_an_event_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        codec.decode_event(event(user_id="", action=0, value=math.inf), field="events[0]", now_ms=NOW_MS)
    fields = [v.field for v in caught.value.violations]
    assert fields == ["events[0].user_id", "events[0].action", "events[0].value"]


def test_an_event_may_be_five_minutes_ahead_of_our_clock() -> None:
    ahead = event(time_ms=NOW_MS + 300_000)
    assert codec.decode_event(ahead, field="e", now_ms=NOW_MS).time_ms == NOW_MS + 300_000


def test_the_same_event_without_an_id_gets_the_same_id_and_the_importers() -> None:
    first = codec.decode_event(event(), field="e", now_ms=NOW_MS)
    again = codec.decode_event(event(), field="e", now_ms=NOW_MS + 1000)
    other = codec.decode_event(event(value=1.0), field="e", now_ms=NOW_MS)
    assert first.event_id == again.event_id == EventIds().of(first)
    assert other.event_id != first.event_id


def test_events_without_a_time_happen_now_and_never_look_alike() -> None:
    first, second = (codec.decode_event(event(time_ms=0), field="e", now_ms=NOW_MS) for _ in range(2))
    assert first.time_ms == second.time_ms == NOW_MS
    assert first.event_id != second.event_id


def test_a_carried_event_belongs_to_the_requests_person() -> None:
    def decode(user_id: str) -> Event:
        return codec.decode_event(
            event(user_id=user_id), field="events[0]", now_ms=NOW_MS, default_user_id="ada"
        )

    assert decode("").user_id == decode("ada").user_id == "ada"
    assert "events[0].user_id must be empty or the request's" in refusal(InvalidInput, decode, "bob")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_id": ""}, "items[0].item_id must be 1..256 bytes, got ''"),
        ({"title": "t" * 1025}, "items[0].title must be at most 1024 bytes"),
        ({"description": "d" * 32769}, "items[0].description must be at most 32768 bytes"),
        ({"categories": ["c"] * 65}, "items[0].categories must hold at most 64, got 65"),
        ({"categories": ["ok", ""]}, "items[0].categories[1] must be 1..128 bytes, got ''"),
        ({"attributes": {str(i): "" for i in range(65)}}, "items[0].attributes must hold at most 64, got 65"),
        ({"attributes": {"": "x"}}, "items[0].attributes names must be 1..128 bytes, got ''"),
        ({"attributes": {"a": "v" * 1025}}, "items[0].attributes['a'] must be at most 1024 bytes"),
        ({"created_ms": -5}, "items[0].created_ms must be milliseconds since 1970"),
    ],
)
def test_a_broken_item_names_field_rule_and_value(changes: dict[str, Any], message: str) -> None:
    broken = item_pb2.Item(**({"item_id": "i1"} | changes))
    assert message in refusal(InvalidInput, codec.decode_item, broken, field="items[0]")


def test_an_item_is_available_unless_it_says_otherwise() -> None:
    assert codec.decode_item(item_pb2.Item(item_id="i"), field="i").available
    assert not codec.decode_item(item_pb2.Item(item_id="i", available=False), field="i").available


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other_user_id": "ada"}, "r.other_user_id must differ from user_id, got 'ada'"),
        ({"weight": math.nan}, "r.weight must be 0 (meaning 1)..1, got nan"),
        ({"weight": 1.5}, "r.weight must be 0 (meaning 1)..1, got 1.5"),
        ({"kind": "k" * 65}, "r.kind must be at most 64 bytes"),
    ],
)
def test_a_broken_relation_names_field_rule_and_value(changes: dict[str, Any], message: str) -> None:
    broken = user_pb2.Relation(**({"user_id": "ada", "other_user_id": "bob"} | changes))
    assert message in refusal(InvalidInput, codec.decode_relation, broken, field="r")


def test_an_unset_relation_weight_is_one_and_kind_follows() -> None:
    got = codec.decode_relation(user_pb2.Relation(user_id="a", other_user_id="b"), field="r")
    assert got == Relation("a", "b", "follows", 1.0)


def history(**changes: Any) -> event_pb2.History:
    good = {"item_ids": ["a", "b", "c"], "actions": [2, 3, 4], "values": [0.0] * 3, "time_ms": [1, 2, 2]}
    return event_pb2.History(**(good | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": [2, 3]}, "h.actions must have the length of item_ids, 3, got 2"),
        ({"values": [0.0] * 4}, "h.values must have the length of item_ids, 3, got 4"),
        ({"time_ms": []}, "h.time_ms must have the length of item_ids, 3, got 0"),
        ({"actions": [2, 0, 4]}, "h.actions[1] must be a known action, 1..9, got 0"),
        ({"actions": [2, 3, 10]}, "h.actions[2] must be a known action, 1..9, got 10"),
        ({"values": [0.0, math.inf, 0.0]}, "h.values[1] must be finite, got inf"),
        ({"actions": [2, 7, 4], "values": [0, 5.5, 0]}, "h.values[1] must be 1..5 for a rating, got 5.5"),
        ({"actions": [9, 3, 4], "values": [3e38, 0, 0]}, "h.values[0] must be 0..604800 for a dwell, got 3"),
        ({"time_ms": [1, 3, 2]}, "h.time_ms[2] must be at least the one before, 3, got 2"),
        ({"time_ms": [-1, 3, 4]}, "h.time_ms[0] must be milliseconds since 1970"),
        ({"item_ids": ["a", "", "c"]}, "h.item_ids[1] must be 1..256 bytes, got ''"),
    ],
)
def test_a_malformed_history_names_the_place(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(InvalidInput, codec.decode_history, history(**changes), field="h")


def test_a_profile_must_have_the_models_content_dimension() -> None:
    context = model_pb2.UserContext(user_id="ada")
    context.content_profile.CopyFrom(codec.encode_tensor(np.zeros(3, np.float32)))
    said = refusal(InvalidInput, codec.decode_context, context, field="context", content_dim=4)
    assert said == "context.content_profile.shape must be (4), got (3,)"


def test_a_profile_of_which_no_model_makes_numbers_is_refused() -> None:
    context = model_pb2.UserContext(user_id="ada")
    context.social_profile.CopyFrom(codec.encode_tensor(np.array([0, 0, -3e38, 0], np.float32)))
    said = refusal(InvalidInput, codec.decode_context, context, field="context", content_dim=4)
    assert said.startswith("context.social_profile.data must be -1000..1000 at 2, got -3")


@pytest.mark.parametrize(
    ("category", "share", "message"),
    [
        ("drama", math.nan, "context.categories[1].share must be in 0..1, got nan"),
        ("drama", -0.25, "context.categories[1].share must be in 0..1, got -0.25"),
        ("drama", 1.5, "context.categories[1].share must be in 0..1, got 1.5"),
        ("", 0.5, "context.categories[1].category must be 1..128 bytes, got ''"),
    ],
)
def test_a_category_share_is_a_named_part_of_the_whole(category: str, share: float, message: str) -> None:
    context = model_pb2.UserContext(user_id="ada")
    context.categories.add(category="war", share=0.5)
    context.categories.add(category=category, share=share)
    assert refusal(InvalidInput, codec.decode_context, context, field="context") == message


def test_category_shares_are_as_few_as_features_make() -> None:
    context = model_pb2.UserContext(user_id="ada")
    for n in range(33):
        context.categories.add(category=f"c{n}", share=0.01)
    said = refusal(InvalidInput, codec.decode_context, context, field="context")
    assert said == "context.categories must hold at most 32, got 33"


def test_a_query_whose_products_would_be_no_numbers_is_refused() -> None:
    query = model_pb2.TaskQuery(task="next", vector=codec.encode_tensor(np.array([1, 1e13], np.float32)))
    said = refusal(InvalidInput, codec.decode_queries, [query], field="queries")
    assert said.startswith("queries[0].vector.data must be -1e+12..1e+12 at 1, got 99999")


def test_an_unset_profile_is_zeros() -> None:
    got = codec.decode_context(model_pb2.UserContext(user_id="ada"), field="c", content_dim=4)
    np.testing.assert_array_equal(got.social_profile, np.zeros(4, np.float32))
    assert len(got.history) == 0


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (tensor_pb2.Tensor(dtype=0), "t.dtype must be one of 1..4 (see DType), got 0"),
        (tensor_pb2.Tensor(dtype=9), "t.dtype must be one of 1..4 (see DType), got 9"),
        (tensor_pb2.Tensor(dtype=1, shape=[-1]), "t.shape must be up to 4 lengths of at least 0, got (-1,)"),
        (tensor_pb2.Tensor(dtype=1, shape=[1] * 5), "t.shape must be up to 4 lengths of at least 0"),
        (tensor_pb2.Tensor(dtype=1, shape=[2], data=b"1234"), "= 8 bytes, got 4"),
        (tensor_pb2.Tensor(dtype=1, shape=[1 << 40, 1 << 40], data=b""), "bytes, got 0"),
        (
            tensor_pb2.Tensor(dtype=1, shape=[1 << 62, 0]),
            "t.shape must be lengths of which those that are not 0",
        ),
        (
            tensor_pb2.Tensor(dtype=4, shape=[0, 1 << 30, 2]),
            "multiply to less than 2147483648, got (0, 1073741824, 2)",
        ),
    ],
)
def test_a_malformed_tensor_is_refused(tensor: tensor_pb2.Tensor, message: str) -> None:
    assert message in refusal(InvalidInput, codec.decode_tensor, tensor, field="t")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_tensor_of_floats_must_be_finite(bad: float) -> None:
    tensor = codec.encode_tensor(np.array([[1.0, 2.0], [3.0, bad]], np.float32))
    said = refusal(InvalidInput, codec.decode_floats, tensor, field="t")
    assert said == f"t.data must be finite at 3, got {bad}"


def test_large_finite_floats_whose_sum_overflows_are_finite() -> None:
    array = np.full(4, 3e38, np.float32)
    np.testing.assert_array_equal(codec.decode_floats(codec.encode_tensor(array), field="t"), array)


def test_queries_of_different_lengths_are_refused() -> None:
    queries = codec.encode_queries(("a",), np.zeros((1, 3), np.float32))
    queries += codec.encode_queries(("b",), np.zeros((1, 4), np.float32))
    said = refusal(InvalidInput, codec.decode_queries, queries, field="queries")
    assert said == "queries[1].vector.shape must be (3), got (4,)"


def test_the_fast_weights_must_fit_into_the_query() -> None:
    posterior = Uncertainty(np.zeros((2, 3), np.float32), scale=1.0, offset=2)
    user = AdaptedUser(ModelRef("d", "v"), ("t",), np.zeros((1, 4), np.float32), 1, posterior)
    message = codec.encode_adapted_user(user)
    said = refusal(InvalidInput, codec.decode_adapted_user, message, field="user")
    assert said.startswith("user.uncertainty.offset must leave room for 3 fast weights in a query of 4")


@pytest.mark.parametrize(
    ("ids", "weights", "message"),
    [
        (["a"], [0.5, 0.5], "trail.weights must have the length of item_ids, 1, got 2"),
        (["a", "b"], [0.5, -0.5], "trail.weights[1] must be 0..1e+12, got -0.5"),
        (["a"], [math.nan], "trail.weights[0] must be 0..1e+12, got nan"),
        (["a", ""], [0.5, 0.5], "trail.item_ids[1] must be 1..256 bytes, got ''"),
    ],
)
def test_a_trail_that_breaks_a_rule_is_refused(ids: list[str], weights: list[float], message: str) -> None:
    trail = model_pb2.Trail(item_ids=ids, weights=weights)
    assert refusal(InvalidInput, codec.decode_trail, trail, field="trail") == message


def test_a_trail_is_bounded() -> None:
    trail = model_pb2.Trail(item_ids=["a"] * 1001, weights=[0.0] * 1001)
    said = refusal(TooLarge, codec.decode_trail, trail, field="trail")
    assert said == "trail.item_ids must hold at most 1000, got 1001"


def test_an_unknown_link_is_refused() -> None:
    held = model_pb2.HeldModel(
        model=model_pb2.ModelRef(domain="d", version="v"), tasks=[model_pb2.TaskInfo(name="t", link=7)]
    )
    said = refusal(InvalidInput, codec.decode_held_model, held, field="models[0]")
    assert said == "models[0].tasks[0].link must be one of 1 (IDENTITY), 2 (SIGMOID), got 7"


def test_a_calibration_that_would_turn_the_order_is_refused() -> None:
    task = model_pb2.TaskInfo(name="t", link=1, calibration=[model_pb2.Calibration(shots=1, scale=-1.0)])
    held = model_pb2.HeldModel(model=model_pb2.ModelRef(domain="d", version="v"), tasks=[task])
    said = refusal(InvalidInput, codec.decode_held_model, held, field="models[0]")
    assert said.startswith("models[0].tasks[0].calibration must have finite scales above 0")


def test_bounds_that_are_not_set_are_those_of_a_probability_and_turned_ones_are_refused() -> None:
    def held(**bounds: float) -> model_pb2.HeldModel:
        tasks = [model_pb2.TaskInfo(name="t", link=1, **bounds)]
        return model_pb2.HeldModel(model=model_pb2.ModelRef(domain="d", version="v"), tasks=tasks)

    (task,) = codec.decode_held_model(held(), field="models[0]").tasks
    assert task.bounds == (0.0, 1.0)
    said = refusal(InvalidInput, codec.decode_held_model, held(low=5.0, high=1.0), field="models[0]")
    assert said.startswith("models[0].tasks[0].low must be finite and below high")


def test_an_empty_domain_is_the_default_one_and_another_is_refused_by_name() -> None:
    assert codec.check_domain("", ("default", "shop")) == "default"
    assert codec.check_domain("shop", ("default", "shop")) == "shop"
    said = refusal(InvalidInput, codec.check_domain, "news", ("shop", "default"))
    assert said == "domain must be one of default, shop, got 'news'"


def test_too_many_ids_are_too_large_and_too_few_invalid() -> None:
    assert codec.decode_ids(["a", "b"], field="ids", max_count=2) == ("a", "b")
    said = refusal(TooLarge, codec.decode_ids, ["a"] * 3, field="ids", max_count=2)
    assert said == "ids must hold at most 2, got 3"
    assert "at least 1" in refusal(InvalidInput, codec.decode_ids, [], field="ids", max_count=2, min_count=1)
    assert "ids[1] must be" in refusal(InvalidInput, codec.decode_ids, ["a", ""], field="ids", max_count=2)


@pytest.mark.parametrize(
    ("rules", "admitted"),
    [
        (ItemFilter(), True),
        (ItemFilter(any_categories=frozenset({"war", "film"})), True),
        (ItemFilter(any_categories=frozenset({"war"})), False),
        (ItemFilter(all_categories=frozenset({"film", "noir"})), True),
        (ItemFilter(all_categories=frozenset({"film", "war"})), False),
        (ItemFilter(no_categories=frozenset({"noir"})), False),
        (ItemFilter(attributes=(AttributeCondition("lang", frozenset({"de", "en"})),)), True),
        (ItemFilter(attributes=(AttributeCondition("lang", frozenset({"de"})),)), False),
        (ItemFilter(attributes=(AttributeCondition("lang", frozenset({"de"}), negate=True),)), True),
        (ItemFilter(attributes=(AttributeCondition("brand", frozenset({"x"}), negate=True),)), True),
        (ItemFilter(attributes=(AttributeCondition("brand", frozenset({"x"})),)), False),
        (ItemFilter(created_from_ms=100), True),
        (ItemFilter(created_from_ms=101), False),
    ],
)
def test_a_filter_admits_items_that_meet_all_conditions(rules: ItemFilter, admitted: bool) -> None:
    item = Item("i", categories=("film", "noir"), attributes={"lang": "en"}, created_ms=100)
    assert rules.admits(item) is admitted
