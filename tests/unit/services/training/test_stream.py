"""People from disk are the people in memory, a few at a time. Read by this process here, and by Ray Data in
`tests/integration/training/test_stream.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.training import prepare
from services.training.data import TrainingData
from services.training.loop import Worker
from services.training.prepare import load_prepared, prepared_shards
from services.training.pretrain_batch import PretrainConfig, window_batch, windows_from_disk
from services.training.roles import RoleSettings
from services.training.stream import StoredPeople, read_here, steps, stored_people
from services.training.stream_plan import StreamPlan, StreamShape
from services.training.windows import cut_people, generator
from shared.domain import FloatArray
from shared.holdout import Role
from tests.unit.services.training.stored import store

_ROLES = RoleSettings(0.2, 0.2)
_GROUP = 16


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare, "GROUP_PEOPLE", _GROUP)
        return store(tmp_path_factory.mktemp("stored"), people=120)


@pytest.fixture(scope="module")
def memory(directories: tuple[Path, Path]) -> TrainingData:
    return load_prepared(*directories, _ROLES)


@pytest.fixture(scope="module")
def stored(directories: tuple[Path, Path], memory: TrainingData) -> StoredPeople:
    return stored_people(directories[1], _ROLES, memory)


def plan(stored: StoredPeople, worker: int = 0, workers: int = 2) -> StreamPlan:
    return StreamPlan(stored.sizes, StreamShape(batch=8, window_groups=2), 0, worker, workers)


def history(data: TrainingData, user: int) -> tuple[object, ...]:
    mine = slice(data.offsets[user], data.offsets[user + 1])
    items = [data.item_ids[item] for item in data.items[mine]]
    return items, data.actions[mine].tolist(), data.values[mine].tolist(), data.time_ms[mine].tolist()


def test_row_groups_hold_whole_people_the_same_in_both_files(directories: tuple[Path, Path]) -> None:
    pairs = zip(
        prepared_shards(directories[1], "events"), prepared_shards(directories[1], "people"), strict=True
    )
    for events, people in pairs:
        one, other = pq.ParquetFile(events), pq.ParquetFile(people)
        assert one.num_row_groups == other.num_row_groups > 1
        for number in range(one.num_row_groups):
            group = other.read_row_group(number)
            assert _GROUP <= group.num_rows < 2 * _GROUP
            owners = np.repeat(group["user_id"].to_pylist(), group["events"].to_pylist())
            assert one.read_row_group(number)["user_id"].to_pylist() == owners.tolist()


def test_some_people_in_memory_have_the_whole_catalogue(
    directories: tuple[Path, Path], memory: TrainingData
) -> None:
    """Items without events, items that are in no table and items of others' events too."""
    some = load_prepared(*directories, _ROLES, 9)
    assert some.num_users == 9
    assert some.item_ids == memory.item_ids
    assert "never-seen" in some.item_ids
    np.testing.assert_array_equal(some.content, memory.content)
    number = {user_id: place for place, user_id in enumerate(memory.user_ids)}
    for user, user_id in enumerate(some.user_ids):
        assert history(some, user) == history(memory, number[user_id])
        assert some.profiles[user] == memory.profiles[number[user_id]]
        assert some.roles[user] == memory.roles[number[user_id]]


def test_people_are_streamed_whoever_is_in_memory(
    directories: tuple[Path, Path], stored: StoredPeople
) -> None:
    some = stored_people(directories[1], _ROLES, load_prepared(*directories, _ROLES, 9))
    assert some.sizes.tolist() == stored.sizes.tolist()
    one, other = (next(iter(steps(s, plan(stored), 0, 1, read_here)))[1] for s in (some, stored))
    assert one.data.user_ids == other.data.user_ids
    assert history(one.data, 0) == history(other.data, 0)


def test_a_streamed_person_is_the_one_in_memory(stored: StoredPeople, memory: TrainingData) -> None:
    number = {user_id: place for place, user_id in enumerate(memory.user_ids)}
    for _, people in steps(stored, plan(stored), 0, 6, read_here):
        for user in people.users:
            same = number[people.data.user_ids[user]]
            assert history(people.data, int(user)) == history(memory, same)
            np.testing.assert_array_equal(people.data.attributes[user], memory.attributes[same])


def test_nobody_comes_who_is_held_out_or_validates(stored: StoredPeople, memory: TrainingData) -> None:
    trained = {memory.user_ids[user] for user in memory.users_of(Role.TRAIN)}
    assert int(stored.sizes.sum()) == len(trained)
    for _, people in steps(stored, plan(stored), 0, 20, read_here):
        assert set(people.data.user_ids) <= trained


def test_two_workers_never_have_the_same_person_in_an_epoch(stored: StoredPeople) -> None:
    epoch = sum(window.batches for window in plan(stored).windows(0, 100) if window.epoch == 0)
    seen = [
        {
            people.data.user_ids[user]
            for _, people in steps(stored, plan(stored, n), 0, epoch, read_here)
            for user in people.users
        }
        for n in range(2)
    ]
    assert len(seen[0]) == len(seen[1]) == 4 * epoch
    assert not seen[0] & seen[1]


def test_memory_holds_a_window_of_people(stored: StoredPeople) -> None:
    for _, people in steps(stored, plan(stored), 0, 12, read_here):
        assert people.data.num_users < 2 * 2 * _GROUP
        assert people.data.num_events == 12 * people.data.num_users


def test_a_run_that_goes_on_sees_what_it_would_have_seen(stored: StoredPeople) -> None:
    def ids(first: int) -> list[tuple[int, list[str]]]:
        found = steps(stored, plan(stored), first, 24, read_here)
        return [(step, [people.data.user_ids[user] for user in people.users]) for step, people in found]

    whole = ids(0)
    assert [step for step, _ in whole] == list(range(24))
    assert ids(7) == whole[7:]


@pytest.mark.parametrize("lengths", [(), (4,)])
def test_a_steps_windows_are_the_same_wherever_a_run_goes_on(
    stored: StoredPeople, lengths: tuple[int, ...]
) -> None:
    config = PretrainConfig(steps=19, batch_windows=4, window=8, lengths=lengths)

    def windows(first: int) -> list[tuple[object, ...]]:
        found = windows_from_disk(stored, config, 0, Worker(None), first, read_here)
        users = [([w.data.user_ids[u] for u in w.cuts.users], w.cuts.starts.tolist()) for w in found]
        assert len(users) == config.steps - first
        return users

    assert windows(11) == windows(0)[11:]


def test_windows_are_cut_from_streamed_people_as_from_those_in_memory(
    stored: StoredPeople, memory: TrainingData
) -> None:
    """Batch for batch, but for content profiles' rounding."""
    number = {user_id: place for place, user_id in enumerate(memory.user_ids)}
    config = PretrainConfig(batch_windows=4, window=8)
    step, people = next(iter(steps(stored, plan(stored), 3, 4, read_here)))
    same = np.array([number[people.data.user_ids[user]] for user in people.users], np.int32)

    def batch(data: TrainingData, users: np.ndarray) -> dict[str, FloatArray]:
        rng = generator(0, 1, step)
        cuts = cut_people(data, users, np.full(4, 8, np.int64), after=1, first_share=0.3, rng=rng)
        return window_batch(data, cuts, config, rng, 1)

    expected = batch(replace(memory, neighbours=people.data.neighbours.none(memory.num_users)), same)
    for name, found in batch(people.data, people.users).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-6, err_msg=name)
