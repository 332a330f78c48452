"""Training data: roles, order, no leak, features as of a moment."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from services.training.asof import content_profiles, events_before, request_vectors, social_profiles
from services.training.assemble import Tables, assemble, normalise_events, to_sequences
from services.training.data import TrainingData
from services.training.roles import RoleSettings, assign_roles, choose_by_hash
from shared.context.profiles import content_profile, social_profile
from shared.context.standing import standing_labels
from shared.context.vectors import attribute_vector, request_vector
from shared.domain import Action, RequestContext
from shared.errors import InvalidInput
from shared.holdout import Role

DAY = 24 * 3600 * 1000


def events(*rows: tuple[str, str, Action, float, int]) -> pa.Table:
    user, item, action, value, time = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": user,
            "item_id": item,
            "action": [int(a) for a in action],
            "value": value,
            "time_ms": time,
        }
    )


def like(user: str, item: str, time: int) -> tuple[str, str, Action, float, int]:
    return user, item, Action.LIKE, 0.0, time


def random_data(seed: int = 0, people: int = 12, catalogue: int = 20) -> TrainingData:
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{rng.integers(people)}", f"i{rng.integers(catalogue)}", Action.RATING, float(rng.integers(1, 6)),
         int(rng.integers(1, 90)) * DAY)
        for _ in range(200)
    ]  # fmt: skip
    embedding = rng.normal(size=(catalogue, 8)).astype(np.float32)
    items = pa.table(
        {
            "item_id": [f"i{n}" for n in range(catalogue)],
            "embedding": list(embedding / np.linalg.norm(embedding, axis=1, keepdims=True)),
        }
    )
    relations = pa.table(
        {
            "user_id": [f"u{n}" for n in range(people)],
            "other_user_id": [f"u{(n * 5 + 1) % people}" for n in range(people)],
            "weight": np.linspace(0.1, 1.0, people),
            "time_ms": [0 if n % 2 else 40 * DAY for n in range(people)],
        }
    )
    return assemble(Tables(events(*rows), items=items, relations=relations), RoleSettings(0.3, 0.2))


def test_a_role_depends_on_nothing_but_the_id() -> None:
    ids = [f"user-{n}" for n in range(5000)]
    roles = dict(zip(ids, assign_roles(ids, RoleSettings()), strict=True))
    alone = assign_roles(["user-17"], RoleSettings())
    assert alone[0] == roles["user-17"]
    share = np.mean([r == Role.HELD_OUT for r in roles.values()])
    assert share == pytest.approx(0.2, abs=0.02)
    warm = [r for r in roles.values() if r != Role.HELD_OUT]
    assert np.mean([r == Role.VALIDATION for r in warm]) == pytest.approx(0.1, abs=0.02)


def test_a_given_list_replaces_the_share() -> None:
    ids = ["a", "b", "c", "d"]
    roles = assign_roles(ids, RoleSettings(validation_share=0.0, held_out_ids=frozenset({"b", "z"})))
    assert roles.tolist() == [Role.TRAIN, Role.HELD_OUT, Role.TRAIN, Role.TRAIN]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_its_range_is_refused_by_name(share: float) -> None:
    with pytest.raises(InvalidInput, match=r"held_out_share must be in \[0, 1\)"):
        RoleSettings(held_out_share=share)


def test_a_hashed_choice_is_stable_whatever_the_order() -> None:
    names = [f"i{n}" for n in range(50)]
    assert choose_by_hash(names, 5, "new") == choose_by_hash(names[::-1], 5, "new")
    assert choose_by_hash(names, 5, "new") != choose_by_hash(names, 5, "other")


def test_events_are_in_order_of_time_and_ties_keep_the_files_order() -> None:
    data = assemble(
        Tables(events(like("u", "z", 5), like("u", "a", 5), like("u", "m", 3), like("u", "b", 5))),
        RoleSettings(),
    )
    assert [data.item_ids[i] for i in data.items] == ["m", "z", "a", "b"]


def test_impressions_and_repeated_event_ids_are_dropped() -> None:
    table = events(
        like("u", "a", 1), ("u", "b", Action.IMPRESSION, 0.0, 2), like("u", "a", 3), like("v", "a", 1)
    )
    table = table.append_column("event_id", pa.array(["x", "y", "x", "x"]))
    kept = to_sequences(normalise_events(table))
    assert kept["user_id"].to_pylist() == ["u", "v"]
    assert kept["time_ms"].to_pylist() == [1, 1]


def test_people_items_and_offsets_are_sorted_and_whole() -> None:
    data = assemble(
        Tables(
            events(like("b", "y", 1), like("a", "x", 2), like("b", "x", 3)),
            items=pa.table({"item_id": ["w", "x"], "title": ["W", "X"], "categories": [["c"], []]}),
            users=pa.table({"user_id": ["c", "a"], "attributes": [[("age", "3")], []]}),
        ),
        RoleSettings(),
    )
    assert data.user_ids == ("a", "b", "c")
    assert data.item_ids == ("w", "x", "y")
    assert data.titles == ("W", "X", "")
    assert data.categories == (("c",), (), ())
    assert data.offsets.tolist() == [0, 1, 3, 3]
    assert data.items.tolist() == [1, 2, 1]
    np.testing.assert_array_equal(data.attributes[2], attribute_vector({"age": "3"}))


def test_a_missing_column_and_an_empty_log_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"events must have columns value"):
        normalise_events(events(like("u", "a", 1)).drop_columns(["value"]))
    with pytest.raises(InvalidInput, match=r"at least one event"):
        assemble(Tables(events(("u", "a", Action.IMPRESSION, 0.0, 1))), RoleSettings())


def test_nothing_of_held_out_people_remains_in_what_training_sees() -> None:
    data = random_data()
    seen = data.without_held_out()
    strangers = {u for u, r in zip(data.user_ids, data.roles, strict=True) if r == Role.HELD_OUT}
    assert strangers
    assert strangers.isdisjoint(seen.user_ids)
    assert seen.num_events == sum(data.lengths[data.roles != Role.HELD_OUT])
    assert seen.item_ids == data.item_ids
    names = [seen.user_ids[v] for v in seen.neighbours.users]
    assert strangers.isdisjoint(names)
    np.testing.assert_array_equal(seen.popularity(), data.popularity())
    assert seen.popularity().sum() == data.lengths[data.roles == Role.TRAIN].sum()


def test_selected_people_keep_their_own_events_and_relations() -> None:
    data = random_data()
    keep = np.arange(data.num_users) % 3 != 1
    some = data.select_users(keep)
    for number, user_id in enumerate(some.user_ids):
        old = data.user_ids.index(user_id)
        np.testing.assert_array_equal(
            some.items[some.offsets[number] : some.offsets[number + 1]],
            data.items[data.offsets[old] : data.offsets[old + 1]],
        )
        kept = {
            data.user_ids[v]
            for v in data.neighbours.users[data.neighbours.offsets[old] : data.neighbours.offsets[old + 1]]
            if keep[v]
        }
        relations = some.neighbours
        new = {
            some.user_ids[v]
            for v in relations.users[relations.offsets[number] : relations.offsets[number + 1]]
        }
        assert new == kept


def test_held_out_items_leave_catalogue_and_events() -> None:
    data = random_data()
    gone = np.array([2, 7], np.int32)
    rest, taken = data.hold_out_items(gone)
    names = {data.item_ids[2], data.item_ids[7]}
    assert names.isdisjoint(rest.item_ids)
    assert set(taken.item_ids) == names
    assert rest.num_events + len(taken.users) == data.num_events
    before = {
        (data.user_ids[u], data.item_ids[i], t)
        for u, i, t in zip(data.owners, data.items, data.time_ms, strict=True)
    }
    after = {
        (rest.user_ids[u], rest.item_ids[i], t)
        for u, i, t in zip(rest.owners, rest.items, rest.time_ms, strict=True)
    } | {
        (data.user_ids[u], taken.item_ids[i], t)
        for u, i, t in zip(taken.users, taken.items, taken.time_ms, strict=True)
    }
    assert after == before


def test_content_profiles_equal_the_serving_function() -> None:
    data = random_data(1)
    users = np.arange(data.num_users, dtype=np.int32).repeat(3)
    rng = np.random.default_rng(2)
    counts = rng.integers(0, data.lengths[users] + 1)
    fast = content_profiles(data, users, counts)
    for row, (user, count) in enumerate(zip(users, counts, strict=True)):
        part = slice(data.offsets[user], data.offsets[user] + count)
        plain = content_profile(
            data.content[data.items[part]],
            standing_labels(data.items[part].tolist(), data.actions[part], data.values[part]),
            data.time_ms[part],
            100 * DAY,
        )
        np.testing.assert_allclose(fast[row], plain, atol=1e-5)


def test_social_profiles_read_only_what_neighbours_did_before() -> None:
    data = random_data(3)
    users = np.arange(data.num_users, dtype=np.int32)
    for moment in (10 * DAY, 50 * DAY):
        times = np.full(data.num_users, moment, np.int64)
        fast = social_profiles(data, users, times)
        for user in users:
            relations = slice(data.neighbours.offsets[user], data.neighbours.offsets[user + 1])
            begun = data.neighbours.since_ms[relations] <= moment
            others = data.neighbours.users[relations][begun]
            weights = data.neighbours.weights[relations][begun]
            theirs = []
            for other in others:
                part = slice(data.offsets[other], data.offsets[other + 1])
                past = data.time_ms[part] < moment
                theirs.append(
                    content_profile(
                        data.content[data.items[part][past]],
                        standing_labels(
                            data.items[part][past].tolist(),
                            data.actions[part][past],
                            data.values[part][past],
                        ),
                        data.time_ms[part][past],
                        moment,
                    )
                )
            plain = social_profile(np.array(theirs, np.float32).reshape(-1, 8), weights)
            np.testing.assert_allclose(fast[user], plain, atol=1e-5)


def test_only_events_strictly_before_the_moment_count() -> None:
    data = assemble(Tables(events(like("u", "a", 5), like("u", "b", 5), like("u", "c", 6))), RoleSettings())
    moments = np.array([5, 6, 7], np.int64)
    assert events_before(data, np.zeros(3, np.int32), moments).tolist() == [0, 2, 3]


def test_request_vectors_equal_the_serving_function() -> None:
    moments = np.array([0, 1, 1_700_000_000_000, 951_782_400_123], np.int64)
    for row, moment in zip(request_vectors(moments), moments, strict=True):
        np.testing.assert_allclose(row, request_vector(RequestContext(time_ms=int(moment))), atol=1e-5)
