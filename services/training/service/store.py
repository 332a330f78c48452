"""The trainings on disk: `training.json` in each one's run, beside what its process keeps there.

The options stand in the run's own `run.json`, so `warmstart train --resume RUN` goes on with it as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.training.noted import noted
from services.training.options import TRAIN
from services.training.runs import (
    Run,
    fresh_name,
    is_finished,
    new_run,
    note_options,
    noted_result,
    write_atomically,
)
from services.training.service.training import Result, Training
from services.training.settings import TrainSettings
from shared.errors import SettingsError, WarmstartError
from shared.processes.lock import FileLock
from shared.telemetry.logs import logger

_RECORD = "training.json"
_LOCK = ".service.lock"
# Said by `run.json` and by where it lies.
_NOT_IN_RECORD = {"settings", "run_directory"}
_LOG = logger("trainings")


class TrainingStore:
    """Blocking: call it on a thread. One process at a time holds a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._lock = FileLock(self._root / _LOCK)
        self._records: TypeAdapter[Training] = TypeAdapter(Training)

    @property
    def root(self) -> Path:
        return self._root

    def try_hold(self) -> str:
        """Takes the directory, made where it is missing. Returns "", or the process that holds it, in words.

        Raises SettingsError where it cannot be made, written or locked.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            return self._lock.take()
        except OSError as error:
            raise SettingsError(
                f"runs must be a directory that can be written and locked, got {error}"
            ) from error

    def let_go(self) -> None:
        self._lock.let_go()

    def run(self, training_id: str) -> Run:
        return Run(self._root / training_id)

    def fresh_id(self) -> str:
        """Of no training and no directory that is there; ids sort by time."""
        while (self._root / (name := fresh_name())).exists():
            time.sleep(0.001)
        return name

    def create(self, training: Training) -> None:
        """Makes its run and notes both durably."""
        new_run(self._root / training.training_id, _options(training.settings))
        self.write(training)

    def reopen(self, training: Training) -> None:
        """For a training that goes on: its options may name other places than before."""
        note_options(self.run(training.training_id), _options(training.settings))
        self.write(training)

    def write(self, training: Training) -> None:
        """Whole or not at all. Raises OSError."""
        record = self._records.dump_json(training, indent=2, exclude=_NOT_IN_RECORD)
        write_atomically(self._root / training.training_id / _RECORD, record)

    def load(self) -> Iterator[Training]:
        """All that can be read, in any order; the others are logged."""
        for path in self._root.glob(f"*/{_RECORD}"):
            try:
                settings = noted(path.parent).settings
                record = json.loads(path.read_bytes())
                more = {"settings": settings, "run_directory": str(path.parent)}
                yield self._records.validate_python({**record, **more})
            except (OSError, ValueError, KeyError, TypeError, RecursionError, WarmstartError) as error:
                _LOG.warning("training_unreadable", path=str(path), error=str(error))

    def result(self, training_id: str) -> Result | None:
        """What came of it, by its run's own note, with the report's text; None where it is not finished."""
        run = self.run(training_id)
        if not is_finished(run):
            return None
        try:
            line = noted_result(run)
            return Result.of(line, _text_of(Path(line["report"]["markdown"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _LOG.error("result_unreadable", id=training_id, error=f"{type(error).__name__}: {error}")
            return None


def _options(settings: TrainSettings) -> dict[str, Any]:
    """As the training process notes its own."""
    return {"command": TRAIN, **settings.as_dict()}


def _text_of(report: Path) -> str:
    """ "" where the file has been tidied away since."""
    return report.read_text(encoding="utf-8") if report.is_file() else ""
