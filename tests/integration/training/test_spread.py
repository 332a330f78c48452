"""Arms of an evaluation on a real local Ray, in processes of their own.

The driver has a process of its own too, as in every training: Ray takes over the signals of a process that
was its driver, and ends it without a word a minute after a call that came too late for its dead cluster.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from services.training.assemble import assemble
from services.training.cluster import ClusterSettings, ray_session
from services.training.data import TrainingData
from services.training.evaluation.few_shot import FAST_WEIGHTS, ON, FewShot, few_shot
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.served import Saved, ServedArtifact
from services.training.evaluation.spread import Call, Spread, one_by_one, over_ray
from services.training.roles import RoleSettings
from shared.artifacts import Registry
from shared.errors import NotFound
from shared.holdout import Role
from shared.processes.family import family_of, kill
from tests.artifacts import publish_model
from tests.unit.services.training import synthetic

pytestmark = pytest.mark.timeout(240)
_END_S = 60.0

Driver = Callable[..., Any]
_session = ExitStack()


def _begin(log_dir: Path) -> None:
    _session.enter_context(ray_session(ClusterSettings(cpus=2), log_dir))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Makes a call in the driver of a Ray."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        process = pool.submit(os.getpid).result()
        pool.submit(_begin, tmp_path_factory.mktemp("ray")).result()
        yield lambda work, *given: pool.submit(work, *given).result()
        try:
            pool.submit(_session.close).result(_END_S)
        except TimeoutError:
            kill([*family_of(process), psutil.Process(process)])
            raise


def scaled(numbers: np.ndarray, factor: int) -> tuple[int, float]:
    return os.getpid(), factor * float(numbers.sum())


def refused(numbers: np.ndarray) -> None:
    raise NotFound(f"no item {numbers[-1]}")


def _in_order(spread: Spread) -> None:
    told: list[tuple[int, int]] = []
    calls = [Call(scaled, (factor,)) for factor in range(5)]
    found = spread((np.arange(4),), calls, lambda *done: told.append(done))
    assert [value for _, value in found] == [0.0, 6.0, 12.0, 18.0, 24.0]
    assert told == [(done, 5) for done in range(6)]
    assert (os.getpid() in {process for process, _ in found}) == (spread is one_by_one)
    assert spread((np.arange(4),), [], lambda *done: None) == []


@pytest.mark.parametrize("spread", [one_by_one, over_ray])
def test_results_keep_the_order_of_their_calls(driver: Driver, spread: Spread) -> None:
    driver(_in_order, spread)


def _raised(spread: Spread) -> None:
    with pytest.raises(NotFound) as raised:
        spread((np.arange(4),), [Call(scaled, (1,)), Call(refused)], lambda *done: None)
    assert str(raised.value) == "no item 3"


@pytest.mark.parametrize("spread", [one_by_one, over_ray])
def test_what_one_call_raises_is_raised(driver: Driver, spread: Spread) -> None:
    driver(_raised, spread)


@pytest.mark.slow
def test_arms_in_other_processes_give_the_table_of_this_one(driver: Driver, tmp_path: Path) -> None:
    """Models travel as the place of their files; with what follows a person's events and without."""
    data = assemble(synthetic.tables(people=60, events=12, items=60), RoleSettings(0.4, 0.3))
    content = dict(zip(data.item_ids, data.content, strict=True))
    dims = {"content_dim": data.content.shape[1]}
    ref = publish_model(Registry(tmp_path), ids=data.item_ids, content=content.__getitem__, **dims)
    saved = Saved(tmp_path, ref)
    found = driver(_table, data, saved, over_ray)
    here = _table(data, saved.load(), one_by_one)
    assert set(found.arms) == set(here.arms)
    assert found.tuned == here.tuned
    for name, by_shots in here.arms.items():
        for shots, scores in by_shots.items():
            np.testing.assert_allclose(found.arms[name][shots].ndcg, scores.ndcg, err_msg=name)


def _table(data: TrainingData, model: Saved | ServedArtifact, spread: Any) -> FewShot:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    models = {ON: [model], FAST_WEIGHTS: [replace(model, follows=False)]}
    return few_shot(data, questions, models, task="next", spread=spread)


class Interrupted(BaseException):
    """As a signal's handler raises it."""


def endless(driver: int) -> None:
    """Interrupts whoever waits for it, where a process is given."""
    if driver:
        os.kill(driver, signal.SIGINT)
    threading.Event().wait()


def _interrupted() -> None:
    def handle(number: int, frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(Interrupted):
            calls = [Call(endless, (driver,)) for driver in (os.getpid(), 0, 0)]
            over_ray((), calls, lambda *done: None)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_ends_the_waiting_at_once(driver: Driver) -> None:
    driver(_interrupted)
