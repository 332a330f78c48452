"""People streamed by Ray Data are those that one process reads, window for window. `pytest -m slow` runs it:
it starts Ray. Its short form is `tests/unit/services/training/test_stream.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.training import prepare
from services.training.cluster import ClusterSettings, ray_session
from services.training.prepare import load_prepared, prepared_shards
from services.training.roles import RoleSettings
from services.training.stream import read_here, steps, stored_people
from services.training.stream_plan import StreamPlan, StreamShape
from tests.unit.services.training.stored import store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_ROLES = RoleSettings(0.2, 0.2)


@pytest.fixture(scope="module", autouse=True)
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ray_session(ClusterSettings(cpus=2), tmp_path_factory.mktemp("ray")):
        yield


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare, "GROUP_PEOPLE", 16)
        return store(tmp_path_factory.mktemp("stored"), people=240, shards=3)


def test_ray_prepares_what_one_process_prepares(directories: tuple[Path, Path], tmp_path: Path) -> None:
    snapshot, prepared = directories
    prepare.prepare(snapshot, tmp_path)
    assert prepare.is_prepared(tmp_path)
    assert [path.name for path in prepared_shards(tmp_path, "people")] == [
        path.name for path in prepared_shards(prepared, "people")
    ]
    one, other = load_prepared(snapshot, tmp_path, _ROLES), load_prepared(snapshot, prepared, _ROLES)
    assert one.user_ids == other.user_ids
    for name, column in one.as_arrays().items():
        np.testing.assert_array_equal(column, getattr(other, name), err_msg=name)


def test_ray_streams_what_one_process_reads(directories: tuple[Path, Path]) -> None:
    """From a step in the midst of a window, over the end of an epoch."""
    stored = stored_people(directories[1], _ROLES, load_prepared(*directories, _ROLES))
    for worker in range(2):
        plan = StreamPlan(stored.sizes, StreamShape(batch=8, window_groups=2), 0, worker, 2)
        streamed, read = steps(stored, plan, 5, 40), steps(stored, plan, 5, 40, read_here)
        for (step, people), (same, expected) in zip(streamed, read, strict=True):
            assert step == same
            assert people.data.user_ids == expected.data.user_ids
            np.testing.assert_array_equal(people.users, expected.users)
            for name, column in people.data.as_arrays().items():
                np.testing.assert_array_equal(column, getattr(expected.data, name), err_msg=name)
