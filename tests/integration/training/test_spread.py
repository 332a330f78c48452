"""Arms of an evaluation on a real local Ray, in processes of their own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.cluster import ClusterSettings, ray_session
from services.training.data import TrainingData
from services.training.evaluation.few_shot import FAST_WEIGHTS, ON, FewShot, few_shot
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.served import Saved, ServedArtifact
from services.training.evaluation.spread import Call, one_by_one, over_ray
from services.training.roles import RoleSettings
from shared.artifacts import Registry
from shared.errors import NotFound
from shared.holdout import Role
from tests.artifacts import publish_model
from tests.unit.services.training import synthetic

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", autouse=True)
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ray_session(ClusterSettings(cpus=2), tmp_path_factory.mktemp("ray")):
        yield


def scaled(numbers: np.ndarray, factor: int) -> tuple[int, float]:
    return os.getpid(), factor * float(numbers.sum())


def refused(numbers: np.ndarray) -> None:
    raise NotFound(f"no item {numbers[-1]}")


@pytest.mark.parametrize("spread", [one_by_one, over_ray])
def test_results_keep_the_order_of_their_calls(spread: Any) -> None:
    told: list[tuple[int, int]] = []
    calls = [Call(scaled, (factor,)) for factor in range(5)]
    found = spread((np.arange(4),), calls, lambda *done: told.append(done))
    assert [value for _, value in found] == [0.0, 6.0, 12.0, 18.0, 24.0]
    assert told == [(done, 5) for done in range(6)]
    assert (os.getpid() in {process for process, _ in found}) == (spread is one_by_one)
    assert spread((np.arange(4),), [], lambda *done: None) == []


@pytest.mark.parametrize("spread", [one_by_one, over_ray])
def test_what_one_call_raises_is_raised(spread: Any) -> None:
    with pytest.raises(NotFound) as raised:
        spread((np.arange(4),), [Call(scaled, (1,)), Call(refused)], lambda *done: None)
    assert str(raised.value) == "no item 3"


@pytest.mark.slow
def test_arms_in_other_processes_give_the_table_of_this_one(tmp_path: Path) -> None:
    """Models travel as the place of their files; with what follows a person's events and without."""
    data = assemble(synthetic.tables(people=60, events=12, items=60), RoleSettings(0.4, 0.3))
    content = dict(zip(data.item_ids, data.content, strict=True))
    dims = {"content_dim": data.content.shape[1]}
    ref = publish_model(Registry(tmp_path), ids=data.item_ids, content=content.__getitem__, **dims)
    saved = Saved(tmp_path, ref)
    found = _table(data, saved, over_ray)
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


def test_a_signal_ends_the_waiting_at_once() -> None:
    def handle(number: int, frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(Interrupted):
            calls = [Call(endless, (driver,)) for driver in (os.getpid(), 0, 0)]
            over_ray((), calls, lambda *done: None)
    finally:
        signal.signal(signal.SIGINT, before)
