"""The report of what privacy costs: every arm, the ledgers, and popularity that is told with noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.evaluation.few_shot import FewShot, few_shot
from services.training.evaluation.metrics import ndcg_at, top_items
from services.training.evaluation.private import (
    EPSILONS,
    arm_name,
    popularity_told,
    private_popularity,
    rows_alone,
)
from services.training.evaluation.private_report import NOT_PRIVATE, private_dict
from services.training.evaluation.protocol import ask, fitting_protocol
from services.training.evaluation.report import markdown, write_report
from services.training.private.budget import Promise, ledger, scaled_to
from services.training.private.config import PrivateConfig
from services.training.roles import RoleSettings
from shared.holdout import Role
from tests.unit.services.training import synthetic
from tests.unit.services.training.evaluation.test_reports import ContentModel


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(), RoleSettings(0.35, 0.2))


@pytest.fixture(scope="module")
def table(data: TrainingData) -> FewShot:
    people = data.users_of(Role.HELD_OUT)
    names = [NOT_PRIVATE, *(name for e in EPSILONS for name in (arm_name(e), rows_alone(e)))]
    models: Any = {name: [ContentModel(data)] for name in names}
    return few_shot(data, ask(data, people, fitting_protocol(data, people)), models, task="next")


def test_without_noise_popularity_is_as_people_have_it(data: TrainingData, table: FewShot) -> None:
    """Everybody has as many events here, so that what a person counts for is the same; noise changes it."""
    silent = private_popularity(data, table.questions, math.inf, 1e-6, 1)
    trained = np.flatnonzero(data.roles != Role.HELD_OUT)
    counts = np.bincount(data.items[np.isin(data.owners, trained)], minlength=data.num_items)
    best = top_items(
        np.broadcast_to(counts.astype(np.float32), (len(table.questions), data.num_items)),
        table.questions.masked,
        10,
    )
    assert silent.ndcg.mean() == pytest.approx(ndcg_at(best, table.questions.relevant, 10).mean(), abs=0.02)
    loud = private_popularity(data, table.questions, 0.1, 1e-6, 2)
    assert np.abs(loud.ndcg - silent.ndcg).max() > 0.05


def test_a_report_has_every_arm_and_what_was_spent(
    data: TrainingData, table: FewShot, tmp_path: Path
) -> None:
    popular = {e: private_popularity(data, table.questions, e, 1e-6, 1) for e in EPSILONS}
    promise = Promise(4.0, 1e-6)
    spent = ledger(promise, scaled_to(promise, PrivateConfig().mechanisms(body=True)))
    assert spent is not None
    found = private_dict(table, popular, {4.0: spent}, task="next", delta=1e-6, people=78)
    report = {"domain": "default", "preset": "tiny", "data": "synthetic", "private": found, "seeds": 1}
    text = markdown(report)
    for epsilon in EPSILONS:
        for name in (arm_name(epsilon), rows_alone(epsilon), popularity_told(epsilon)):
            assert f"\n| {name} | " in text
    assert "78 people are trained on, each promised (ε, δ = 1e-06)" in text
    assert "Spent at ε = 4:" in text
    assert "| gradients | 1 | " in text
    assert f"In all ε = {spent.epsilon:.3f} at δ = 1e-06" in text
    files = write_report(tmp_path, report)
    assert Path(files["private"]).stat().st_size > 10_000
