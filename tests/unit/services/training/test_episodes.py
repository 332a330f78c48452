"""Episodes: support, query, and features as serving would have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.episodes import (
    LONG_HISTORIES,
    SHORT_HISTORIES,
    EpisodeShape,
    draw_episodes,
    episode_inputs,
    events_so_far,
    excluded,
    moments_for,
    protocol_episodes,
    query_sets,
    query_times,
    support_profiles,
    thin,
)
from services.training.reactions import ReactionConfig, reaction_inputs
from services.training.roles import RoleSettings
from services.training.windows import Cuts, generator, places
from shared.context.batch import build_inputs
from shared.context.profiles import content_profile
from shared.context.standing import standing_labels
from shared.domain import Action, History, RequestContext, UserContext
from tests.unit.services.training import synthetic


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=20, events=34, items=80), RoleSettings(0.0, 0.2))


EVERYBODY = np.arange(20, dtype=np.int32)


def test_episodes_lie_within_a_history_and_leave_something_to_predict(data: TrainingData) -> None:
    shape = EpisodeShape(max_shots=20, none_share=0.1)
    drawn = draw_episodes(data, EVERYBODY, 2000, shape, generator(0, 2, 0))
    assert (drawn.starts >= 0).all()
    assert (drawn.starts + drawn.counts + shape.query <= 34).all()
    assert set(drawn.counts.tolist()) == set(range(21))
    # Log-uniform: k = 1 comes with probability log 2 / log 21 = .23 of the rest.
    assert abs((drawn.counts == 1).mean() - 0.9 * 0.228) < 0.03
    assert abs((drawn.counts == 0).mean() - 0.1) < 0.03


def test_early_episodes_begin_early(data: TrainingData) -> None:
    shape = EpisodeShape(early_share=1.0, early_events=6, max_shots=4)
    drawn = draw_episodes(data, EVERYBODY, 300, shape, generator(0, 2, 0))
    assert (drawn.starts + drawn.counts).max() == 6


def test_whom_nothing_is_known_of_has_just_come(data: TrainingData) -> None:
    shape = EpisodeShape(early_share=0.0, early_events=6, none_share=0.5)
    drawn = draw_episodes(data, EVERYBODY, 300, shape, generator(0, 2, 0))
    assert drawn.starts[drawn.counts == 0].max() == 6
    assert drawn.starts[drawn.counts > 0].max() > 6


def test_whom_nothing_is_known_of_may_have_a_past(data: TrainingData) -> None:
    """34 events: a query of 5 begins after 29 at the latest, so nothing is left to draw above that."""
    shape = EpisodeShape(early_events=30, none_share=0.5, unseen_events=15)
    drawn = draw_episodes(data, EVERYBODY, 600, shape, generator(0, 2, 0))
    begins = drawn.starts[drawn.counts == 0]
    assert (begins.min(), begins.max()) == (15, 29)
    assert (drawn.starts + drawn.counts)[drawn.counts > 0].min() < 15
    late = draw_episodes(data, EVERYBODY, 600, replace(shape, unseen_events=90), generator(0, 2, 0))
    assert set(late.starts[late.counts == 0].tolist()) == {29}


def test_moments_without_room_for_the_shots_ask_nobody(data: TrainingData) -> None:
    found = protocol_episodes(data, EVERYBODY, 5, before=(3, 6, 12), query=5)
    assert sorted(set((found.starts + found.counts).tolist())) == [6, 12]
    assert len(found) == 2 * len(EVERYBODY)
    assert not len(protocol_episodes(data, EVERYBODY, 13, before=(3, 6, 12), query=5))


def test_people_with_short_histories_are_asked_early(data: TrainingData) -> None:
    """34 events: 20 and 10 more. 14 events: not so many, so after 3, 6 and 12 (who has 17) for the next 5."""
    assert moments_for(data, EVERYBODY) == LONG_HISTORIES
    short = assemble(synthetic.tables(people=20, events=14, items=80), RoleSettings(0.0, 0.2))
    assert moments_for(short, EVERYBODY) == SHORT_HISTORIES
    nobody = np.zeros(0, np.int32)
    assert moments_for(data, nobody) == LONG_HISTORIES


def test_the_protocol_takes_the_latest_of_the_first_twenty(data: TrainingData) -> None:
    found = protocol_episodes(data, EVERYBODY, 5)
    assert (found.starts == 15).all()
    items, there, labels = query_sets(data, found, 10)
    first = data.offsets[:-1]
    np.testing.assert_array_equal(items, data.items[first[:, None] + 20 + np.arange(10)])
    assert there.all()
    np.testing.assert_array_equal(labels, data.labels[first[:, None] + 20 + np.arange(10)])
    np.testing.assert_array_equal(query_times(data, found), data.time_ms[first + 20])
    assert all(len(items) == 20 for items in events_so_far(data, found))


def test_a_query_set_ends_with_the_history(data: TrainingData) -> None:
    cut = Cuts(np.array([3], np.int32), np.array([28]), np.array([3]))
    items, there, _ = query_sets(data, cut, 5)
    assert there.tolist() == [[1, 1, 1, 0, 0]]
    assert not items[0, 3:].any()


def test_excluded_marks_each_persons_own_items() -> None:
    found = excluded([np.array([2, 0]), np.array([], np.int32)], 4)
    assert found.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


class Rows:
    """Live rows that name the item, so that inputs can be compared."""

    def __init__(self, data: TrainingData) -> None:
        self.index = {item: row for row, item in enumerate(data.item_ids)}
        self.input_rows = np.arange(data.num_items, dtype=np.float32)[:, None]
        self.support_rows = -self.input_rows


def with_repeats(data: TrainingData) -> TrainingData:
    """The same people acting in all ways on six items only."""
    rng = np.random.default_rng(5)
    actions = rng.integers(2, 10, data.num_events).astype(np.int32)
    values = np.where(actions == Action.RATING, rng.integers(1, 6, data.num_events), 0.0).astype(np.float32)
    return replace(data, items=data.items % 6, actions=actions, values=values)


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("shots", [0, 1, 7, 20])
def test_inputs_are_those_that_serving_builds(data: TrainingData, shots: int, repeats: bool) -> None:
    """The same people through `build_inputs`, as strangers who have done nothing but the support events."""
    data = with_repeats(data) if repeats else data
    cuts = protocol_episodes(data, EVERYBODY, shots)
    mine = episode_inputs(data, cuts, 20)
    contexts = []
    for user, start, now in zip(cuts.users, cuts.starts, query_times(data, cuts), strict=True):
        part = slice(data.offsets[user] + start, data.offsets[user] + start + shots)
        items, times = data.items[part], data.time_ms[part]
        names = tuple(data.item_ids[i] for i in items)
        history = History(names, data.actions[part], data.values[part], times)
        labels = standing_labels(names, data.actions[part], data.values[part])
        profile = content_profile(data.content[items], labels, times, int(now))
        zeros = np.zeros_like(profile)
        request = RequestContext(time_ms=int(now))
        contexts.append(UserContext(data.user_ids[user], history, profile, zeros, request=request))
    served = build_inputs(contexts, Rows(data), (20,)).as_dict()
    assert set(mine) - {"items"} == set(served) - {"input_rows", "support_rows"}
    np.testing.assert_array_equal(mine["items"] * mine["mask"], served["input_rows"][..., 0])
    for name in set(mine) - {"items"}:
        np.testing.assert_allclose(mine[name], served[name], atol=1e-5, err_msg=name)


def test_profiles_leave_the_batch_as_it_is(data: TrainingData) -> None:
    batch = episode_inputs(data, protocol_episodes(data, EVERYBODY, 5), 20)
    items = batch["items"].copy()
    support_profiles(data, batch)
    np.testing.assert_array_equal(batch["items"], items)


def test_thinned_support_is_earlier_events_in_order(data: TrainingData) -> None:
    cuts = Cuts(EVERYBODY, np.full(20, 10), np.full(20, 4))
    index, mask = places(data, cuts, 6)
    thinned = thin(index, mask, cuts.starts + cuts.counts, 1.0, generator(0, 2, 1))
    ends = data.offsets[:-1] + 14
    assert (np.diff(thinned[:, 2:], axis=1) > 0).all()
    assert (thinned[:, 2:] < ends[:, None]).all()
    assert (thinned[:, 2:] >= ends[:, None] - 11).all()
    assert (thinned != index).any()


def test_a_reaction_adds_one_event_to_the_same_people(data: TrainingData) -> None:
    cuts = protocol_episodes(data, EVERYBODY, 3)
    batch = episode_inputs(data, cuts, 20)
    targets, _, _ = query_sets(data, cuts, 10)
    both = reaction_inputs(data, batch, targets, ReactionConfig(episodes=8), generator(0, 2, 2))
    mask, actions = both["reaction_mask"], both["reaction_actions"]
    assert mask.sum(axis=1).tolist() == [3] * 8 + [4] * 8
    np.testing.assert_array_equal(actions[8:, -4:-1], actions[:8, -3:])
    np.testing.assert_array_equal(both["reaction_items"][8:, -1], both["reaction_item"])
    labels = np.select(
        [actions[8:, -1] == a for a in (Action.LIKE, Action.DISLIKE, Action.SKIP)], [1, -1, -0.5]
    )
    np.testing.assert_array_equal(both["reaction_label"], labels)
    np.testing.assert_array_equal(both["reaction_labels"][8:, -1], labels)
    # A dislike or skip adds nothing to the content profile, a like does.
    profile = both["reaction_content_profile"]
    same = np.isclose(profile[:8], profile[8:], atol=1e-6).all(axis=1)
    np.testing.assert_array_equal(same, np.less(labels, 0))
