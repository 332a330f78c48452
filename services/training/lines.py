"""What the training process says: one JSON object a line on standard output, and nothing else there.

    {"event": "stage", "name": "pretrain"}          [, "beside": true: what began before it goes on]
    {"event": "progress", "stage": "pretrain", "step": 120, "total": 2000, "metrics": {"loss": 5.1}}
    {"event": "log", "message": "…"}
    {"event": "result", …}            once, at the end
    {"event": "error", "message": "…"}  once, instead of a result
                                      [, "settings": true: resumed, it would be refused alike]

Libraries' own output (Ray, TensorFlow, C++) goes to the run's log file.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


class Lines:
    """Writes the lines. Values that JSON does not know (NaN, infinities) become null."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage(self, name: str, *, beside: bool = False) -> None:
        """beside: stages that began before it go on."""
        self._write({"event": "stage", "name": name, **({"beside": True} if beside else {})})

    def progress(self, stage: str, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """step of total (0 = unknown)."""
        self._write(
            {
                "event": "progress",
                "stage": stage,
                "step": step,
                "total": total,
                "metrics": dict(metrics or {}),
            }
        )

    def log(self, message: str) -> None:
        self._write({"event": "log", "message": message})

    def result(self, result: Mapping[str, Any]) -> None:
        self._write({"event": "result", **result})

    def error(self, message: str, *, settings: bool = False) -> None:
        """settings: whether those of the run are what is wrong, which resuming keeps."""
        self._write({"event": "error", "message": message, **({"settings": True} if settings else {})})

    def pass_on(self, line: Mapping[str, Any]) -> None:
        """A line of another training process, as it came."""
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        self._stream.flush()


def _plain(value: Any) -> Any:
    """Mappings, sequences and numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextmanager
def only_lines_on_stdout() -> Iterator[TextIO]:
    """Yields the real standard output; meanwhile whatever else writes there lands on standard error.

    Works on file descriptors, so it catches C++ libraries and child processes too.
    """
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(own, "w", encoding="utf-8") as stream:
        try:
            yield stream
        finally:
            stream.flush()
            sys.stdout.flush()
            os.dup2(own, 1)


@contextmanager
def noise_to(file: Path) -> Iterator[None]:
    """Sends standard output and error of this process and its children to a file, appended."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
