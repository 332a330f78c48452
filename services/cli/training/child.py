"""`python -m services.training …` as a child process: TensorFlow and Ray stay out of the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from services.cli import tls
from services.cli.failures import CommandError
from services.cli.signals import interrupted_by
from shared.processes.family import family_of, kill
from shared.processes.scratch import sweep_ray_directories
from shared.processes.trainer import ERROR, LOG, PROGRAM, RESULT, STOP_S, Line, command, ending, parse_line


def run_training(
    arguments: Sequence[str], on_line: Callable[[Line], None], program: Sequence[str] = PROGRAM
) -> Line:
    """Runs the process to its end, handing each line on; returns the result line.

    Ctrl-C and SIGTERM stop it cleanly and raise KeyboardInterrupt. Raises CommandError with what the
    process said where it fails, or how it died and how to go on where it said nothing.
    """
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
            command(arguments, program),
            env={**os.environ, **tls.environment()},
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
        if last.get("event") == RESULT and code == 0:
            return last
        if last.get("message"):
            raise CommandError(last["message"])
        said = [ending(code, _last_words(noise)), *(_next_steps(arguments, run[0]) if run else ())]
        raise CommandError("\n".join(said))


def _follow(process: subprocess.Popen[str], on_line: Callable[[Line], None]) -> Line:
    """Until the process closes its output; returns its result or error line, {} where it gave none."""
    last: Line = {}
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    for text in process.stdout:
        try:
            line = parse_line(text)
        except ValueError as error:
            raise CommandError(str(error)) from None
        if line.get("event") in (RESULT, ERROR):
            last = line
        else:
            on_line(line)
    return last


def _stop(process: subprocess.Popen[str]) -> None:
    """First by asking, so that the run can be resumed; then by force. Its children go with it."""
    family = family_of(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C: at once
        _kill_tree(process)
    kill(family)


def _kill_tree(process: subprocess.Popen[str]) -> None:
    kill(family_of(process.pid))
    process.kill()
    process.wait()
    sweep_ray_directories()


def _last_words(noise: IO[bytes]) -> str:
    noise.seek(0)
    return noise.read().decode(errors="replace")


def _next_steps(arguments: Sequence[str], run: Path) -> list[str]:
    """Once it has a run, the process writes its words to the run's log."""
    return [f"log: {run / LOG}", f"go on with: {resume_command(arguments, run)}"]


def resume_command(arguments: Sequence[str], run: Path) -> str:
    """What goes on with a run that began with the arguments; one on a cluster is submitted again."""
    addresses = [given.removeprefix("--address=") for given in arguments if given.startswith("--address=")]
    again = [f"--address {address}" for address in addresses if is_job_server(address)]
    return " ".join([f"warmstart {arguments[0]}", *again, f"--resume {run}"])


def is_job_server(address: str) -> bool:
    """Whether an address is that of a cluster's dashboard, which takes jobs."""
    return address.startswith(("http://", "https://"))


def run_directory(line: Line) -> Path | None:
    """The run's directory, where this log line names it."""
    message = str(line.get("message", ""))
    return Path(message.removeprefix("run ")) if message.startswith("run ") else None
