"""Who comes when in a stream of people."""

from __future__ import annotations

import numpy as np
import pytest

from services.training.stream_plan import StreamPlan, StreamShape, Window
from shared.errors import InvalidInput

# Steps of the first two epochs below.
_EPOCH = 5


def plans(
    people: list[int], batch: int, window_groups: int, workers: int = 2, seed: int = 0
) -> list[StreamPlan]:
    sizes, shape = np.array(people, np.int64), StreamShape(batch, window_groups)
    return [StreamPlan(sizes, shape, seed, worker, workers) for worker in range(workers)]


def came(plan: StreamPlan, first: int, total: int) -> dict[int, list[tuple[int, int]]]:
    """Who comes at each step: (first group of the window, number in it)."""
    found = {}
    for window in plan.windows(first, total):
        order = plan.order(window)
        for batch in range(window.batches):
            step = window.first_step + batch
            if first <= step < total:
                numbers = order[batch * plan.share : (batch + 1) * plan.share]
                found[step] = [(window.groups[0], int(number)) for number in numbers]
    return found


def test_an_epoch_by_hand() -> None:
    """Four groups of 10 people, two workers, 8 people a step: each worker has two groups side by side, 20
    people, and takes 4 a step: five steps an epoch, nobody left out."""
    one, other = plans([10, 10, 10, 10], batch=8, window_groups=2)
    (first, second), (others, _) = list(one.windows(0, 10)), list(other.windows(0, 10))
    assert (first.epoch, first.first_step, first.batches) == (0, 0, _EPOCH)
    assert (second.epoch, second.first_step, second.batches) == (1, _EPOCH, _EPOCH)
    assert set(first.groups) | set(others.groups) == {0, 1, 2, 3}


def test_everybody_comes_once_an_epoch_to_one_worker() -> None:
    people = [
        (window, number)
        for plan in plans([6, 6, 6, 6], 4, 1)
        for step in came(plan, 0, 6).values()
        for window, number in step
    ]
    assert sorted(people) == [(group, number) for group in range(4) for number in range(6)]


def test_what_fills_no_batch_is_left_out_and_the_shorter_share_ends_the_epoch_for_all() -> None:
    """Shares of 2 of groups of 7 and 5: three batches for one worker, two for the other, so two for both."""
    one, other = plans([7, 5], batch=4, window_groups=1)
    steps = {plan.worker: [(w.first_step, w.batches) for w in plan.windows(0, 4)] for plan in (one, other)}
    assert steps == {0: [(0, 2), (2, 2)], 1: [(0, 2), (2, 2)]}


def test_a_step_has_the_same_people_whatever_came_before() -> None:
    for plan in plans([9, 8, 11, 10, 9, 8], batch=4, window_groups=2):
        whole = came(plan, 0, 40)
        assert sorted(whole) == list(range(40))
        for first in (1, 13, 39):
            assert came(plan, first, 40) == {step: whole[step] for step in range(first, 40)}


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    plan, other = plans([40, 40], 4, 2, workers=1)[0], plans([40, 40], 4, 2, workers=1, seed=1)[0]
    (first, second) = plan.windows(0, 40)
    (others, _) = other.windows(0, 40)
    assert sorted(plan.order(first)) == list(range(80))
    assert plan.order(first).tolist() == plan.order(first).tolist()
    assert plan.order(first).tolist() != plan.order(Window(1, first.groups, 20, 20)).tolist()
    assert plan.order(first).tolist() != other.order(Window(0, first.groups, 0, 20)).tolist()
    assert second.epoch == 1
    assert others.epoch == 0


@pytest.mark.parametrize(
    ("people", "batch", "said"),
    [
        ([9, 9], 3, "batch must divide by 2 workers, got 3"),
        ([9], 4, "groups of people must be at least as many as workers, 2, got 1"),
        ([9, 1], 4, "groups of people must hold a worker's share of a batch, 2 people, 1 together, got 1"),
    ],
)
def test_a_stream_without_enough_people_is_refused(people: list[int], batch: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plans(people, batch, 1)
