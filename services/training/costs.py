"""What whole trainings cost, as their exports tell it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from services.training.cost import PEAK_MEMORY_MB
from services.training.jobs import Job
from services.training.worker import DRAFT_FILE

# Of the adapter of one arm, unlike what its body took.
ADAPT_SECONDS = "adapt_seconds"


def cost(jobs: Sequence[Job]) -> dict[str, float]:
    """What a training took: seconds by stage, the mean over jobs, and the peak memory of any worker.

    All arms of a job stand on one body, whose stages each of them tells; adapters are added up. Whole-body
    arms have no export and tell nothing.
    """
    trainings = [t for t in ([_told(job.export(arm)) for arm in job.arms] for job in jobs) if any(t)]
    found = [_of_training([arm for arm in arms if arm]) for arms in trainings]
    names = dict.fromkeys(name for figures in found for name in figures)
    together = {name: [figures[name] for figures in found if name in figures] for name in names}
    return {
        name: round(float(max(told) if name == PEAK_MEMORY_MB else np.mean(told)), 1)
        for name, told in together.items()
    }


def seconds_since(began_s: float) -> float:
    """began_s: of time.monotonic()."""
    return round(time.monotonic() - began_s, 1)


def _told(export: Path) -> dict[str, float]:
    """Seconds and memory that an export tells; nothing where there is none."""
    draft = export / DRAFT_FILE
    metrics = json.loads(draft.read_text())["metrics"] if draft.is_file() else {}
    return {name: value for name, value in metrics.items() if name.endswith(("seconds", PEAK_MEMORY_MB))}


def _of_training(arms: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of all arms of one job; those before meta-training know less of their body than the others."""
    found: dict[str, float] = {}
    for told in arms:
        for name, value in told.items():
            if name == ADAPT_SECONDS:
                found[name] = found.get(name, 0.0) + value
            else:
                found[name] = max(found.get(name, 0.0), value)
    return found
