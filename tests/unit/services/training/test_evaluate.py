"""What an evaluation says of its trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from services.training.assemble import assemble
from services.training.costs import cost
from services.training.evaluate import costs_of, plan_of
from services.training.jobs import Arm, Job
from services.training.roles import RoleSettings
from services.training.runs import Run
from services.training.settings import SourceSettings, TrainSettings
from services.training.worker import DRAFT_FILE
from shared.holdout import Role
from tests.unit.services.training import synthetic

SOURCE = SourceSettings(dataset="movielens-100k")
ON, OFF = Arm("on", "finetune"), Arm("off", "none")


def test_a_trainings_cost_is_told_by_an_arm_that_was_exported(tmp_path: Path) -> None:
    """Two seeds of 10 and 20 s; the whole-body arm has no export, and a resumed run no time of its stage."""
    jobs = [Job(f"seed-{n}", tmp_path / str(n), n, "tiny", (ON, OFF)) for n in range(3)]
    told = ({"pretrain_seconds": 10.0}, {"pretrain_seconds": 20.0}, {})
    for job, seconds in zip(jobs, told, strict=True):
        job.export(OFF).mkdir(parents=True)
        metrics = {**seconds, "peak_memory_mb": 500.0, "loss": 3.0}
        (job.export(OFF) / DRAFT_FILE).write_text(json.dumps({"metrics": metrics}))
    assert cost(jobs) == {"pretrain_seconds": 15.0, "peak_memory_mb": 500.0}
    assert cost([]) == {}


def test_adapters_on_one_body_are_added_up_and_the_body_is_counted_once(tmp_path: Path) -> None:
    """Two adapters of 3 and 4 s on a body of 10 and 5 s, which is told before meta-training too."""
    arms = (Arm("re-encoding", "none", pretrained=True), Arm("a", "ridge"), Arm("b", "gradient"))
    job = Job("seed-0", tmp_path, 0, "tiny", arms)
    body = {"pretrain_seconds": 10.0, "peak_memory_mb": 400.0}
    whole = {**body, "meta-train_seconds": 5.0}
    told = (body, {**whole, "adapt_seconds": 3.0}, {**whole, "adapt_seconds": 4.0, "peak_memory_mb": 500.0})
    for arm, metrics in zip(arms, told, strict=True):
        job.export(arm).mkdir(parents=True)
        (job.export(arm) / DRAFT_FILE).write_text(json.dumps({"metrics": metrics}))
    assert cost([job]) == {
        "pretrain_seconds": 10.0,
        "peak_memory_mb": 500.0,
        "meta-train_seconds": 5.0,
        "adapt_seconds": 7.0,
    }
    assert cost([replace(job, arms=arms[1:2])])["adapt_seconds"] == 3.0


def test_each_kind_of_model_reads_data_of_its_own(tmp_path: Path) -> None:
    """Two seeds; one model without 5 new items; one model a seed that is blind to labels, without an
    adapter."""
    data = assemble(synthetic.tables(people=40, events=12, items=60), RoleSettings(0.2, 0.2))
    settings = TrainSettings(SOURCE, protocol="all", seeds=2, seed=3, new_items=5, blind=True)
    plan = plan_of(settings, Run(tmp_path), data)
    jobs = [*plan.seeds, *plan.new_items, *plan.blind]
    assert len({job.directory for job in jobs}) == 5
    assert [job.seed for job in plan.blind] == [job.seed for job in plan.seeds] == [3, 4]
    assert [job.data for job in jobs] == [0, 0, 1, 2, 2]
    assert [arm.name for job in plan.blind for arm in job.arms] == ["off", "off"]
    assert [read.num_items for read in plan.data] == [60, 55, 60]
    assert [read.blind for read in plan.data] == [False, False, True]
    assert not {int(Role.HELD_OUT)} & {int(role) for read in plan.data for role in read.roles}
    settings = replace(settings, protocol="few-shot", new_items=100)
    alone = plan_of(replace(settings, blind=False), Run(tmp_path), data)
    assert ([job.data for job in alone.seeds], alone.new_items, alone.blind) == ([0, 0], [], [])
    blind = plan_of(settings, Run(tmp_path), data)
    assert [blind.data[job.data].blind for job in blind.blind] == [True, True]


def test_an_evaluation_tells_the_cost_of_whatever_it_trained(tmp_path: Path) -> None:
    """Of new items alone there is no seed but theirs; blind models are told apart."""
    data = assemble(synthetic.tables(people=40, events=12, items=60), RoleSettings(0.2, 0.2))
    settings = TrainSettings(SOURCE, protocol="new-items", seeds=1, new_items=5)
    for protocol, others in (("new-items", set()), ("all", {"blind to labels", "without the new items"})):
        asked = replace(settings, protocol=protocol, blind=protocol == "all")
        plan = plan_of(asked, Run(tmp_path / protocol), data)
        for job in (*plan.seeds, *plan.new_items, *plan.blind):
            job.export(job.arms[0]).mkdir(parents=True)
            (job.export(job.arms[0]) / DRAFT_FILE).write_text('{"metrics": {"pretrain_seconds": 2.0}}')
        told = costs_of(plan)
        assert told["cost"] == {"pretrain_seconds": 2.0}
        assert set(told["cost_of_others"]) == others
