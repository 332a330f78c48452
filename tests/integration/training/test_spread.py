"""Arms of an evaluation on a real local Ray, in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.cluster import ClusterSettings, ray_session
from services.training.data import TrainingData
from services.training.evaluation.few_shot import OFF, ON, few_shot
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.served import ServedArtifact
from services.training.evaluation.spread import Call, one_by_one, over_ray
from services.training.roles import RoleSettings
from shared.artifacts import Registry
from shared.domain import ModelRef
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
    with pytest.raises(NotFound, match="no item 3"):
        spread((np.arange(4),), [Call(scaled, (1,)), Call(refused)], lambda *done: None)


def test_arms_in_other_processes_give_the_table_of_this_one(tmp_path: Path) -> None:
    """Models travel as the place of their files; with what follows a person's events and without."""
    data = assemble(synthetic.tables(people=60, events=12, items=60), RoleSettings(0.4, 0.3))
    registry = Registry(tmp_path)
    served = ServedArtifact.load(registry.open(_published(registry, data, data.num_items)))
    table_of = _table(data, served, over_ray)
    here = _table(data, served, one_by_one)
    assert set(table_of.arms) == set(here.arms)
    assert table_of.tuned == here.tuned
    for name, by_shots in here.arms.items():
        for shots, scores in by_shots.items():
            np.testing.assert_allclose(table_of.arms[name][shots].ndcg, scores.ndcg, err_msg=name)


def test_a_model_with_items_of_this_process_alone_does_not_travel(tmp_path: Path) -> None:
    data = assemble(synthetic.tables(people=40, events=12, items=60), RoleSettings(0.4, 0.3))
    registry = Registry(tmp_path)
    served = ServedArtifact.load(registry.open(_published(registry, data, 50)))
    served.add_items(data.item_ids, data.content)
    with pytest.raises(TypeError, match="do not travel"):
        served.__reduce__()


def _published(registry: Registry, data: TrainingData, items: int) -> ModelRef:
    content = dict(zip(data.item_ids, data.content, strict=True))
    return publish_model(
        registry,
        ids=data.item_ids[:items],
        content=content.__getitem__,
        content_dim=data.content.shape[1],
    )


def _table(data: TrainingData, served: ServedArtifact, spread: Any) -> Any:
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    return few_shot(data, questions, {ON: [served], OFF: [served]}, task="next", spread=spread)
