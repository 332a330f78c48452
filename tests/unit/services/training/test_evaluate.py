"""What an evaluation says of its trainings."""

from __future__ import annotations

import json
from pathlib import Path

from services.training.evaluate import cost
from services.training.jobs import Arm, Job
from services.training.worker import DRAFT_FILE

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
