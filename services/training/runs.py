"""The directory of one run: everything that it reads, writes and can be resumed from.

run.json                 the options of the run
snapshot/  prepared/     what training reads
jobs/<job>/<arm>/        checkpoints and the export of one trained model
jobs/generation          of the snapshot that all of them learnt from
tensorboard/  logs/      for people
progress.jsonl           what the workers tell the driver
lost.jsonl               workers that died, as Ray Train's controller saw it
registry/                candidates, before they are published
evaluation/              report.json, report.md, plots
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.errors import InvalidInput

OPTIONS_FILE = "run.json"
_RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Run:
    """The places inside a run's directory."""

    directory: Path

    @property
    def snapshot(self) -> Path:
        return self.directory / "snapshot"

    @property
    def prepared(self) -> Path:
        return self.directory / "prepared"

    @property
    def jobs(self) -> Path:
        return self.directory / "jobs"

    @property
    def tensorboard(self) -> Path:
        return self.directory / "tensorboard"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def progress(self) -> Path:
        return self.directory / "progress.jsonl"

    @property
    def lost(self) -> Path:
        return self.directory / "lost.jsonl"

    @property
    def stop(self) -> Path:
        return self.directory / "stop"

    @property
    def registry(self) -> Path:
        return self.directory / "registry"

    @property
    def evaluation(self) -> Path:
        return self.directory / "evaluation"


def new_run(directory: Path, options: Mapping[str, Any]) -> Run:
    """Makes the directory and notes the options. Raises InvalidInput where a run is there already."""
    directory = directory.resolve()
    if (directory / OPTIONS_FILE).exists():
        raise InvalidInput.of("run_dir", "must not hold a run (go on with it by --resume)", str(directory))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput.of(
            "run_dir", f"must be a directory that can be made ({error.strerror})", str(directory)
        ) from error
    run = Run(directory)
    note_options(run, options)
    return run


def note_options(run: Run, options: Mapping[str, Any]) -> None:
    """Whoever resumes the run goes by them."""
    write_atomically(run.directory / OPTIONS_FILE, json.dumps(dict(options), indent=2).encode())


def note_result(run: Run, result: Mapping[str, Any]) -> None:
    """Marks the run as finished."""
    write_atomically(run.directory / _RESULT, json.dumps(dict(result), indent=2, default=str).encode())


def is_finished(run: Run) -> bool:
    return (run.directory / _RESULT).is_file()


def noted_result(run: Run) -> dict[str, Any]:
    """What `note_result` noted. Raises FileNotFoundError where the run is not finished."""
    result: dict[str, Any] = json.loads((run.directory / _RESULT).read_text())
    return result


def fresh_name() -> str:
    """A directory name that sorts by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"


def write_atomically(path: Path, content: bytes) -> None:
    """Whole or not at all, also when the power goes."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
