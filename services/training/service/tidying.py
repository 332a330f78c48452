"""Copies of people's events go after some days: snapshots of runs, then whole runs.

A run's age is that of the newest file in it, so one that trains, here or elsewhere, is never old. Models that
were published are in the registry and stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Counter

from services.training.runs import OPTIONS_FILE, Run, is_finished
from shared.telemetry.logs import logger

_DAY_S = 24 * 3600
_LOG = logger("tidying")


def tidied_counter() -> Counter:
    return Counter(
        "warmstart_training_removed",
        "Copies of people's events that their days have removed: snapshots, runs.",
        ("kind",),
        registry=None,
    )


@dataclass(frozen=True, slots=True)
class KeptDays:
    """Days for which things are kept; 0 = for ever."""

    snapshots: int = 0
    runs: int = 0


class Tidying:
    """Of one directory of runs. Blocking: call it on a thread."""

    def __init__(self, root: Path, days: KeptDays, removed: Counter) -> None:
        self._root, self._days, self._removed = root, days, removed

    def tidy(self, now_s: float, spared: Collection[str]) -> list[str]:
        """Removes what is too old, but of runs that are spared; names of the runs that went whole."""
        gone: list[str] = []
        for directory in self._runs():
            if directory.name in spared:
                continue
            age_s = now_s - _touched_s(directory)
            try:
                if self._days.runs and age_s >= self._days.runs * _DAY_S:
                    shutil.rmtree(directory)
                    gone.append(directory.name)
                    self._note("run", directory)
                elif self._days.snapshots and age_s >= self._days.snapshots * _DAY_S:
                    self._drop_snapshot(Run(directory))
            except OSError as error:
                _LOG.warning("run_not_tidied", run=str(directory), error=str(error))
        return gone

    def _runs(self) -> Iterator[Path]:
        for directory in sorted(self._root.iterdir()):
            if (directory / OPTIONS_FILE).is_file() and not directory.is_symlink():
                yield directory

    def _drop_snapshot(self, run: Run) -> None:
        if not (run.snapshot.exists() or run.prepared.exists()):
            return
        if not is_finished(run):  # resumed, it takes a new snapshot, which its checkpoints would not fit
            shutil.rmtree(run.jobs, ignore_errors=True)
        for copy in (run.prepared, run.snapshot):
            if copy.exists():
                shutil.rmtree(copy)
        self._note("snapshot", run.directory)

    def _note(self, kind: str, directory: Path) -> None:
        self._removed.labels(kind).inc()
        _LOG.info("removed", kind=kind, run=str(directory))


def _touched_s(directory: Path) -> float:
    """When the newest file in it was written; some may go meanwhile."""
    newest = directory.stat().st_mtime
    for path in directory.rglob("*"):
        try:
            newest = max(newest, path.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return newest
