"""How reports say the same things everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from services.training.evaluation.metrics import Interval
from services.training.settings import MIX


def seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def interval(value: Interval | Mapping[str, float], digits: int = 4) -> str:
    """A difference and its 95% interval."""
    i = asdict(value) if isinstance(value, Interval) else value
    return f"{i['mean']:+.{digits}f} [{i['low']:+.{digits}f}, {i['high']:+.{digits}f}]"


def ranked_by(task: str) -> str:
    return "the mix of tasks that is served" if task == MIX else f"task `{task}`"
