"""Stands where `python -m services.training` does: says its lines and keeps its habits, but trains nothing.

    python training_program.py HOW train --resume RUN

HOW: succeed, refuse, misfit (refused for its settings), die, babble, or what goes on until it is told:
`wait` for SIGTERM the first time and succeed when it is resumed, `stubborn` for SIGKILL, `gate` for a file
named `go` in its run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = str(Path(__file__).resolve())
VERSION = "20260101T000000.000Z"


def program(how: str) -> tuple[str, str]:
    """In place of `shared.processes.trainer.PROGRAM`."""
    return PROGRAM, how


def say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Stopped(BaseException):
    """By SIGTERM."""


def stop(number: int, _: object) -> None:
    raise Stopped


def succeed(run: Path) -> int:
    say("stage", name="evaluate")
    (run / "report.md").write_text("## Few shots\n")
    result = {
        "run": str(run),
        "version": VERSION,
        "domain": json.loads((run / "run.json").read_text())["domain"],
        "promoted": True,
        "reasons": ["NDCG@10 .2 beats popularity's .1"],
        "metrics": {"adaptation on": 0.2, "popularity": 0.1},
        "people": 7,
        "report": {"markdown": str(run / "report.md")},
        "seconds": 1.5,
    }
    (run / "result.json").write_text(json.dumps(result))
    say("result", **result)
    return 0


def main() -> int:
    how, run = sys.argv[1], Path(sys.argv[-1])
    with (run / "attempts").open("a") as attempts:
        attempts.write(".")
    resumed = (run / "attempts").stat().st_size > 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "stubborn" else stop)
    child = (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        if how == "stubborn"
        else None
    )
    say("log", message=f"run {run}")
    say("stage", name="pretrain")
    say("progress", stage="pretrain", step=3, total=10, metrics={"loss": 2.5, "norm": None})
    say("log", message=f"child {child.pid}" if child else f"process {os.getpid()}")
    try:
        match how:
            case "refuse":
                say("error", message="events must not be empty: import some first, got 0")
                return 2
            case "misfit":
                say("error", message="adapter_settings['steps'] must be at least 1, got 0", settings=True)
                return 2
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "babble":
                sys.stdout.write("hello\n")
                sys.stdout.flush()
                time.sleep(120)
            case "gate":
                while not (run / "go").exists():
                    time.sleep(0.01)
            case "wait" | "stubborn" if not resumed:
                time.sleep(120)
        return succeed(run)
    except Stopped:
        say("error", message="stopped by SIGTERM; go on with --resume")
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
