"""One training as the service knows it: a value, and what its process's lines make of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from services.training.settings import SourceSettings, TrainSettings
from shared.processes.trainer import Line

LOG_LINES = 50
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
Int64 = Annotated[int, Field(ge=_LEAST, le=_MOST)]
_MAX_LINE_CHARS = 2000


class State(IntEnum):
    """Numbers equal `warmstart.training.v1.TrainingState`."""

    RUNNING = 1
    STOPPING = 2
    SUCCEEDED = 3
    FAILED = 4
    STOPPED = 5
    INTERRUPTED = 6


ALIVE = frozenset({State.RUNNING, State.STOPPING})


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a stage is; total 0 = unknown."""

    name: str
    step: Int64 = 0
    total: Int64 = 0
    metrics: Mapping[str, FiniteFloat] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for people."""

    message: str


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """Names one process for ever: ids are used again. started_s: seconds since the epoch."""

    pid: int
    started_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a training that succeeded. report: its text in Markdown; report_files: path by kind."""

    version: str
    promoted: bool = False
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, FiniteFloat] = field(default_factory=dict)
    people: Int64 = 0
    seconds: FiniteFloat = 0.0
    report_files: Mapping[str, str] = field(default_factory=dict)
    report: str = ""

    @classmethod
    def of(cls, line: Mapping[str, Any], report: str = "") -> Result:
        """From the process's result line, or the run's own note of it. Raises KeyError, TypeError or
        ValueError."""
        return cls(
            version=text_of(line["version"]),
            promoted=bool(line["promoted"]),
            reasons=tuple(map(text_of, line["reasons"])),
            metrics=_numbers(line["metrics"]),
            people=_whole(line["people"]),
            seconds=_number(line["seconds"]),
            report_files={text_of(kind): text_of(path) for kind, path in dict(line["report"]).items()},
            report=report,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Times are milliseconds since the Unix epoch, 0 = not yet. stages and log: since it was last started.

    start_key, resume_keys: the request keys by which it was started and resumed. settings_refused: it failed
    by its own settings, which resuming keeps.
    """

    training_id: str
    run_directory: str
    settings: TrainSettings
    state: State
    created_ms: Int64
    started_ms: Int64
    ended_ms: Int64 = 0
    stages: tuple[Stage, ...] = ()
    log: tuple[str, ...] = ()
    result: Result | None = None
    error: str = ""
    settings_refused: bool = False
    process: ProcessMark | None = None
    start_key: str = ""
    resume_keys: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        return self.settings.domain

    @property
    def alive(self) -> bool:
        """Whether its process may still write to its run."""
        return self.state in ALIVE


# What a watcher is told: the training whole, or what its process said.
Update = Training | Stage | LogLine


@dataclass(frozen=True, slots=True)
class Places:
    """What is the server's to say, not the caller's."""

    registry: str
    features_target: str
    ray_address: str

    def source(self, dataset: str = "", path: str = "") -> SourceSettings:
        """A known data set, or the feature service where none is named."""
        if dataset:
            return SourceSettings(dataset=dataset, dataset_path=path)
        return SourceSettings(features_target=self.features_target)

    def applied(self, settings: TrainSettings) -> TrainSettings:
        """The same training where things are now: a server started anew may find them elsewhere."""
        source = self.source(settings.source.dataset, settings.source.dataset_path)
        return replace(settings, source=source, registry=self.registry, address=self.ray_address)


def update_of(line: Line) -> Stage | LogLine | None:
    """A line of the process as an update; None where it is of no kind that watchers know. Raises KeyError,
    TypeError, ValueError."""
    match line.get("event"):
        case "stage":
            return Stage(text_of(line["name"]))
        case "progress":
            metrics = _numbers(line.get("metrics") or {})
            return Stage(text_of(line["stage"]), _whole(line["step"]), _whole(line["total"]), metrics)
        case "log":
            return LogLine(text_of(line["message"])[:_MAX_LINE_CHARS])
    return None


def told(training: Training, update: Stage | LogLine) -> Training:
    """The training after an update. A stage that is told again takes the place of what was told before."""
    if isinstance(update, LogLine):
        return replace(training, log=(*training.log, update.message)[-LOG_LINES:])
    stages = list(training.stages)
    for place, stage in enumerate(stages):
        if stage.name == update.name:
            stages[place] = update
            return replace(training, stages=tuple(stages))
    return replace(training, stages=(*stages, update))


def _numbers(values: Any) -> dict[str, float]:
    """Those that are: the process writes null for what is not a number."""
    return {text_of(name): _number(value) for name, value in dict(values).items() if value is not None}


def _number(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, got {value!r:.80}")
    return number


def _whole(value: Any) -> int:
    number = int(_number(value)) if isinstance(value, float) else int(value)
    if not _LEAST <= number <= _MOST:
        raise ValueError(f"must be a whole number of 64 bits, got {value!r:.80}")
    return number


def text_of(value: Any) -> str:
    """JSON can write halves of characters, which no message can hold."""
    return str(value).encode("utf-8", "replace").decode("utf-8")
