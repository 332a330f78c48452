"""`python -m services.training …` as a child process: TensorFlow and Ray stay out of the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from services.cli.cluster import leash
from services.cli.failures import CommandError
from services.cli.signals import interrupted_by

Line = dict[str, Any]
PROGRAM = ("-m", "services.training")
# Within a run's directory; a test compares it with the training's own.
LOG = Path("logs", "training.log")
# Ray and TensorFlow need a moment to save a checkpoint and to stop their workers.
_STOP_S = 30.0
_TAIL_CHARS = 2000


def run_training(
    arguments: Sequence[str], on_line: Callable[[Line], None], program: Sequence[str] = PROGRAM
) -> Line:
    """Runs the process to its end, handing each line on; returns the result line.

    Ctrl-C and SIGTERM stop it cleanly and raise KeyboardInterrupt. Raises CommandError with what the
    process said where it fails, or how it died and how to go on where it said nothing.
    """
    command = [sys.executable, str(leash.__file__), "--term", sys.executable, *program]
    run: list[Path] = []

    def noting_the_run(line: Line) -> None:
        directory = run_directory(line)
        if directory is not None:
            run.append(directory)
        on_line(line)

    with (
        tempfile.TemporaryFile() as noise,
        interrupted_by(signal.SIGTERM, signal.SIGHUP),
        subprocess.Popen(  # noqa: S603 - our own command line
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            start_new_session=True,  # Ctrl-C reaches it through us alone, once
        ) as process,
    ):
        try:
            last = _follow(process, noting_the_run)
            code = process.wait()
        except KeyboardInterrupt:
            _stop(process)
            raise
        except BaseException:
            _kill_tree(process)
            raise
        if last.get("event") == "result" and code == 0:
            return last
        if last.get("message"):
            raise CommandError(last["message"])
        said = [_ending(code, noise), *(_next_steps(arguments[0], run[0]) if run else ())]
        raise CommandError("\n".join(said))


def _follow(process: subprocess.Popen[str], on_line: Callable[[Line], None]) -> Line:
    """Until the process closes its output; returns its result or error line, {} where it gave none."""
    last: Line = {}
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    for text in process.stdout:
        try:
            line: Line = json.loads(text)
        except ValueError:
            raise CommandError(
                f"the training process wrote a line that is not JSON: {text[:200]!r}"
            ) from None
        if line.get("event") in ("result", "error"):
            last = line
        else:
            on_line(line)
    return last


def _stop(process: subprocess.Popen[str]) -> None:
    """First by asking, so that the run can be resumed; then by force. Its children go with it."""
    family = _family(process)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C: at once
        _kill_tree(process)
    _kill(family)


def _kill_tree(process: subprocess.Popen[str]) -> None:
    _kill(_family(process))
    process.kill()
    process.wait()


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its children and theirs (Ray's daemons, training workers)."""
    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()  # psutil refuses a process id that was used again
        except psutil.NoSuchProcess:
            continue


def _ending(code: int, noise: IO[bytes]) -> str:
    how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code} and no result"
    noise.seek(0)
    tail = noise.read().decode(errors="replace")[-_TAIL_CHARS:].strip()
    return f"the training process {how}" + (f"; its last words:\n{tail}" if tail else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _next_steps(command: str, run: Path) -> list[str]:
    """Once it has a run, the process writes its words to the run's log."""
    return [f"log: {run / LOG}", f"go on with: warmstart {command} --resume {run}"]


def run_directory(line: Line) -> Path | None:
    """The run's directory, where this log line names it."""
    message = str(line.get("message", ""))
    return Path(message.removeprefix("run ")) if message.startswith("run ") else None
