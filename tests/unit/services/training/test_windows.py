"""Windows: what is cut from a history, and that nothing of the future comes with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.training import windows
from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.pretrain_batch import PretrainConfig, window_batch
from services.training.roles import RoleSettings
from services.training.windows import (
    Cuts,
    draw_cuts,
    event_inputs,
    generator,
    make_pool,
    places,
    vary_actions,
)
from shared.context.labels import signed_labels
from shared.domain import Action
from tests.unit.services.training import synthetic


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=20, events=12, items=60), RoleSettings(0.0, 0.2))


def cuts(*triples: tuple[int, int, int]) -> Cuts:
    users, starts, counts = (np.array(column) for column in zip(*triples, strict=True))
    return Cuts(users.astype(np.int32), starts.astype(np.int64), counts.astype(np.int64))


def test_events_stand_at_the_right_end(data: TrainingData) -> None:
    """Person 2 begins at 24 of the columns; their events 1..3 fill the last three of five places."""
    index, mask = places(data, cuts((2, 1, 3)), 5)
    assert mask.tolist() == [[0, 0, 1, 1, 1]]
    assert index[0, 2:].tolist() == [25, 26, 27]


def test_a_long_cut_keeps_its_latest_events(data: TrainingData) -> None:
    index, mask = places(data, cuts((0, 0, 12)), 4)
    assert index.tolist() == [[8, 9, 10, 11]]
    assert mask.all()


def test_who_is_blind_to_labels_is_told_what_was_chosen_and_asked_for_what_was_liked(
    data: TrainingData,
) -> None:
    """Inputs lose what was said, and nothing else; targets of `like` stay those of the ratings."""
    blind, cut = replace(data, blind=True), cuts((3, 2, 2), (4, 0, 8))
    seen, told = event_inputs(blind, *places(data, cut, 4)), event_inputs(data, *places(data, cut, 4))
    assert set(seen["actions"][seen["mask"] > 0]) == {Action.VIEW}
    assert not seen["actions"][seen["mask"] == 0].any()
    assert not seen["values"].any()
    for name in ("items", "ages_s", "mask"):
        np.testing.assert_array_equal(seen[name], told[name])
    config = PretrainConfig(window=8, positions=(64, 64, 64), past_known=True)
    batch, same = (window_batch(d, cut, config, generator(0, 1, 0), 1) for d in (blind, data))
    for name in ("like_target", "like_weight", "rating_weight", "stars"):
        np.testing.assert_array_equal(batch[name], same[name])
    assert len(set(batch["labels"][batch["mask"] > 0])) == 1
    some = cut.starts > 0
    assert not np.allclose(batch["content_profile"][some], same["content_profile"][some])


def test_padding_is_empty_in_every_column(data: TrainingData) -> None:
    batch = event_inputs(data, *places(data, cuts((3, 0, 0), (3, 2, 2)), 4))
    for name, column in batch.items():
        assert not column[0].any(), name
        assert not column[1, :2].any(), name
    assert batch["ages_s"][1, 3] == 0.0
    gap_s = (data.time_ms[3 * 12 + 3] - data.time_ms[3 * 12 + 2]) / 1000
    assert batch["ages_s"][1, 2] == pytest.approx(gap_s)


def test_ratings_are_said_as_other_actions_of_the_same_sign(data: TrainingData) -> None:
    batch = event_inputs(data, *places(data, cuts(*[(u, 0, 12) for u in range(20)] * 10), 12))
    varied = vary_actions(batch, 1.0, generator(0, 0, 0))
    changed = varied["actions"] != batch["actions"]
    assert {Action.LIKE, Action.CLICK, Action.DISLIKE, Action.SKIP} <= set(varied["actions"].ravel().tolist())
    old = signed_labels(batch["actions"], batch["values"])
    assert (np.sign(varied["labels"][changed]) == np.sign(old[changed])).all()
    np.testing.assert_array_equal(varied["labels"], signed_labels(varied["actions"], varied["values"]))
    liked, disliked = (old > 0) & (batch["values"] >= 4.0), (old < 0) & (batch["values"] <= 2.0)
    assert 0.55 < changed[liked].mean() < 0.85
    assert 0.1 < changed[disliked].mean() < 0.3
    assert not changed[~liked & ~disliked].any()


def test_without_a_share_ratings_stay(data: TrainingData) -> None:
    batch = event_inputs(data, *places(data, cuts((0, 0, 12)), 12))
    varied = vary_actions(batch, 0.0, generator(0, 0, 0))
    np.testing.assert_array_equal(varied["actions"], batch["actions"])


def test_cuts_leave_room_for_what_follows(data: TrainingData) -> None:
    users = np.arange(20, dtype=np.int32)
    drawn = draw_cuts(data, users, np.full(500, 30), after=2, first_share=0.0, rng=generator(0, 0, 1))
    assert (drawn.starts >= 0).all()
    assert (drawn.starts + drawn.counts + 2 <= 12).all()
    short = draw_cuts(data, users, np.full(500, 4), after=2, first_share=0.0, rng=generator(0, 0, 1))
    assert set(short.starts.tolist()) == set(range(7))


def test_a_share_of_cuts_begins_at_the_beginning(data: TrainingData) -> None:
    users = np.arange(20, dtype=np.int32)
    drawn = draw_cuts(data, users, np.full(400, 4), after=2, first_share=1.0, rng=generator(0, 0, 1))
    assert not drawn.starts.any()


def test_workers_share_a_batch_without_overlap() -> None:
    whole = cuts(*((u, 0, 1) for u in range(6)))
    parts = [whole.part(worker, 3) for worker in range(3)]
    assert [p.users.tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]


def test_a_steps_numbers_depend_on_its_number_alone() -> None:
    one, same, other = (generator(7, 1, step).random() for step in (3, 3, 4))
    assert one == same != other


def test_a_small_catalogue_is_taken_whole(data: TrainingData) -> None:
    pool = make_pool(data, np.array([5]), 10, generator(0, 0, 0))
    assert pool.items is None
    assert len(pool.log_q) == 60
    assert pool.columns(np.array([5, 9])).tolist() == [5, 9]


def test_a_large_catalogue_is_sampled(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of 60 are wanted and nine of the other 57 drawn: each of these stands for 57/9."""
    monkeypatch.setattr(windows, "FULL_SOFTMAX_ITEMS", 50)
    pool = make_pool(data, np.array([[5, 9], [5, 41]]), 12, generator(0, 0, 0))
    assert pool.items is not None
    assert {5, 9, 41} <= set(pool.items.tolist())
    assert len(pool.items) == 12
    assert pool.items[pool.columns(np.array([41, 5]))].tolist() == [41, 5]
    assert pool.log_q[pool.columns(np.array([5]))[0]] == 0.0
    others = ~np.isin(pool.items, [5, 9, 41])
    np.testing.assert_allclose(pool.log_q[others], np.log(9 / 57), rtol=1e-6)


def test_all_wanted_items_are_in_a_pool_that_is_too_small(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "FULL_SOFTMAX_ITEMS", 50)
    pool = make_pool(data, np.arange(8), 5, generator(0, 0, 0))
    assert pool.items is not None
    assert pool.items.tolist() == list(range(8))
    assert not pool.log_q.any()


def test_targets_are_later_events_of_the_same_person(data: TrainingData) -> None:
    config = PretrainConfig(window=6, horizon=3, positions=(64, 64, 64), action_share=0.0)
    batch = window_batch(data, cuts(*((u, u % 5, 5) for u in range(8))), config, generator(0, 1, 0), 1)
    checked = 0
    for task in ("next", "like"):
        chosen = batch[f"{task}_weight"] > 0
        for at, target in zip(batch[f"{task}_at"][chosen], batch[f"{task}_target"][chosen], strict=True):
            person, column = divmod(int(at), 7)
            so_far = 0 if column == 0 else column - 1
            own = data.offsets[person] + person % 5 + so_far
            assert target in data.items[own : own + 3]
            assert task == "next" or data.labels[own : own + 3][data.items[own : own + 3] == target] >= 0.8
            checked += 1
    assert checked > 50


def test_what_came_before_a_window_may_be_unknown(data: TrainingData) -> None:
    late = cuts(*((u, 6, 5) for u in range(8)))
    known, unknown = (
        window_batch(data, late, PretrainConfig(window=6, past_known=past), generator(0, 1, 0), 1)
        for past in (True, False)
    )
    assert np.abs(known["content_profile"]).sum() > 0.0
    assert not unknown["content_profile"].any()


def test_only_ratings_are_asked_for_their_stars(data: TrainingData) -> None:
    """Every other event is a like: the places left are of ratings, with what was given."""
    actions = np.where(np.arange(data.num_events) % 2 == 0, data.actions, int(Action.LIKE)).astype(np.int32)
    mixed = replace(data, actions=actions)
    config = PretrainConfig(window=6, positions=(64, 64, 64))
    batch = window_batch(mixed, cuts(*((u, u % 5, 5) for u in range(8))), config, generator(0, 1, 0), 1)
    chosen = batch["rating_weight"] > 0
    assert 0 < chosen.sum() < len(chosen)
    assert not batch["stars"][~chosen].any()
    for at, target, stars in zip(
        batch["rating_at"][chosen], batch["rating_target"][chosen], batch["stars"][chosen], strict=True
    ):
        own = slice(*mixed.offsets[int(at) // 7 : int(at) // 7 + 2])
        (place,) = np.flatnonzero(mixed.items[own] == target)
        assert mixed.actions[own][place] == Action.RATING
        assert mixed.values[own][place] == stars


def test_the_start_token_knows_nothing_of_the_window_or_later(data: TrainingData) -> None:
    """Events from the window's start on may change as they will: the start features stay."""
    config = PretrainConfig(window=6, positions=(16, 16, 16), action_share=0.0)
    some = cuts((4, 3, 6), (5, 0, 6))
    from_here = np.zeros(data.num_events, bool)
    for user, start in ((4, 3), (5, 0)):
        from_here[data.offsets[user] + start : data.offsets[user + 1]] = True
    changed = replace(
        data,
        items=np.where(from_here, (data.items + 7) % data.num_items, data.items).astype(np.int32),
        values=np.where(from_here, 6.0 - data.values, data.values).astype(np.float32),
    )
    one, other = (window_batch(d, some, config, generator(0, 1, 0), 1) for d in (data, changed))
    for name in ("attributes", "content_profile", "social_profile", "request"):
        np.testing.assert_array_equal(one[name], other[name])
    assert one["content_profile"][0].any()
    assert not one["content_profile"][1].any()
