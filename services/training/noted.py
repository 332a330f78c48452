"""The options that a run noted in `run.json`, read again: whole, or refused by file, field, rule, value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from services.training.runs import OPTIONS_FILE, Run
from services.training.settings import SourceSettings, TrainSettings
from shared.errors import InvalidInput, Violation, violation

COMMANDS = ("train", "evaluate")
_SETTINGS: TypeAdapter[TrainSettings] = TypeAdapter(TrainSettings)
_SOURCE: TypeAdapter[SourceSettings] = TypeAdapter(SourceSettings)
_NOT_A_RUN = (
    f"must be a run's directory (with {OPTIONS_FILE}); runs are in the folder `runs` of their --data-dir, "
    "by default var/runs"
)
_NEXT_STEP = "mend the file, or begin a new run"


@dataclass(frozen=True, slots=True)
class Noted:
    """A run that was begun before, by which command and with which settings."""

    run: Run
    command: str
    settings: TrainSettings


def noted(directory: Path, option: str = "--resume") -> Noted:
    """What the run in the directory was told. Raises InvalidInput that names the `option` where it is no run,
    and its file where that is damaged or of a newer version."""
    run, values = _opened(directory, option)
    file = run.directory / OPTIONS_FILE
    command = values.pop("command", None)
    if command not in COMMANDS:
        raise _damaged(file, [violation("command", f"must be {' or '.join(COMMANDS)}", command)])
    strange = sorted(set(values) - {field.name for field in fields(TrainSettings)})
    if strange:
        known = ", ".join(sorted(field.name for field in fields(TrainSettings)))
        raise _damaged(file, [violation("its names", f"must be settings of this version ({known})", strange)])
    try:
        # As JSON: strict, but for lists that are tuples here.
        return Noted(run, command, _SETTINGS.validate_json(json.dumps(values), strict=True))
    except ValidationError as error:
        raise _damaged(file, map(_violation, error.errors())) from None
    except InvalidInput as error:
        raise _damaged(file, map(_as_noted, error.violations)) from None


def noted_source(directory: Path, option: str) -> SourceSettings:
    """Where the data of a run came from, also one of a newer version. Raises InvalidInput as `noted`."""
    run, values = _opened(directory, option)
    try:
        return _SOURCE.validate_json(json.dumps(values.get("source")), strict=True)
    except ValidationError as error:
        broken = [_violation(each, "source") for each in error.errors()]
        raise _damaged(run.directory / OPTIONS_FILE, broken) from None


def _opened(directory: Path, option: str) -> tuple[Run, dict[str, Any]]:
    directory = directory.resolve()
    file = directory / OPTIONS_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInput.of(option, _NOT_A_RUN, str(directory)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(file, [violation("it", "must be text that can be read", str(error))]) from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, [violation("it", f"must be JSON ({error})", text)]) from None
    if not isinstance(values, dict):
        raise _damaged(file, [violation("it", "must be a JSON object", values)])
    return Run(directory), values


def _damaged(file: Path, broken: Iterable[Violation]) -> InvalidInput:
    found = [Violation(f"{file}: {each.field}", f"{file}: {each.description}") for each in broken]
    last = found[-1]
    return InvalidInput([*found[:-1], Violation(last.field, f"{last.description}: {_NEXT_STEP}")])


def _violation(error: Mapping[str, Any], *place: str) -> Violation:
    """Of what pydantic says: ``Input should be a valid integer``."""
    field = ".".join(map(str, (*place, *error["loc"])))
    if error["type"] == "missing":
        return Violation(field, f"{field} must be there, got nothing")
    return violation(field, str(error["msg"]).replace("Input should be", "must be"), error["input"])


def _as_noted(broken: Violation) -> Violation:
    """``--workers must be at least 1`` → ``workers must be …``: a file has no options."""
    field = broken.field.removeprefix("--").replace("-", "_")
    return Violation(field, field + broken.description.removeprefix(broken.field))
