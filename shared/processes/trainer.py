"""`python -m services.training …`, as those who start it know it: the command line and the training service.

It says one JSON object a line on standard output (`services/training/lines.py`), its libraries write to its
run's log. SIGINT and SIGTERM stop it so that its run can be resumed.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.processes import leash

Line = dict[str, Any]
PROGRAM = ("-m", "services.training")
# Within a run's directory; a test compares it with the training's own.
LOG = Path("logs", "training.log")
# Ray and TensorFlow need a moment to save a checkpoint and to stop their workers.
STOP_S = 30.0
RESULT, ERROR = "result", "error"
_TAIL_CHARS = 2000


def command(arguments: Sequence[str], program: Sequence[str] = PROGRAM) -> list[str]:
    """The command line, on a leash: the process is sent SIGTERM when the one that starts it dies."""
    return [sys.executable, str(leash.__file__), "--term", sys.executable, *program, *arguments]


def parse_line(text: str) -> Line:
    """Raises ValueError where it is not one of the process's lines."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise ValueError(f"the training process wrote a line that is not JSON: {text[:200]!r}")
    return line


def ending(code: int, last_words: str) -> str:
    """How it died, where it gave neither result nor error. last_words: the end of its standard error."""
    how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code} and no result"
    tail = last_words[-_TAIL_CHARS:].strip()
    return f"the training process {how}" + (f"; its last words:\n{tail}" if tail else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
