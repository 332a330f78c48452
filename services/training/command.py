"""Runs one command as the child process that the command line starts: lines out, noise away, exit codes.

0 done · 1 failed · 2 bad options or data · 130 / 143 stopped by SIGINT / SIGTERM
"""

from __future__ import annotations

import shutil
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from services.training.lines import Lines, noise_to, only_lines_on_stdout
from services.training.options import TRAIN, Command, Submission, parse, submission
from services.training.runs import Run, note_result
from services.training.settings import TrainSettings
from shared.errors import InvalidInput, NotFound, Unavailable, WarmstartError, violation
from shared.processes.lock import FileLock

DONE, FAILED, BAD_INPUT = 0, 1, 2
_STOPPED_BY = 128
LOG = "training.log"
_LOCK = ".lock"


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception: nobody who handles errors should swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class SettingsRefused(InvalidInput):
    """The command's own settings are wrong: resuming the run would keep them."""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    with only_lines_on_stdout() as stdout:
        lines = Lines(stdout)
        stop = threading.Event()
        try:
            with _stopping(stop):
                remote = submission(arguments)
                if remote is not None:
                    return _submitted(remote, lines)
                with _refusing_settings():
                    command = parse(arguments)
                return _run(command, lines, stop)
        except Interrupted as interrupted:
            lines.error(f"stopped by {interrupted}; go on with --resume")
            return _STOPPED_BY + interrupted.number
        except InvalidInput as error:
            lines.error(str(error), settings=isinstance(error, SettingsRefused))
            return BAD_INPUT


def _submitted(remote: Submission, lines: Lines) -> int:
    from services.training.submit import submit

    try:
        return submit(remote, lines)
    except Unavailable as error:
        lines.error(str(error))
        return FAILED


def _run(command: Command, lines: Lines, stop: threading.Event) -> int:
    run = command.run
    with _no_trace_where_refused(command):
        _check_files(command)
    lines.log(f"run {run.directory}")
    with _held(run), noise_to(run.logs / LOG):
        try:
            with _no_trace_where_refused(command):
                result = _do(command, lines, stop)
            note_result(run, result)
            lines.result(result)
            return DONE
        except InvalidInput:
            raise
        except WarmstartError as error:
            traceback.print_exc()
            lines.error(str(error))
        except Exception as error:
            traceback.print_exc()
            lines.error(_unexpected(error, run))
        return FAILED


@contextmanager
def _held(run: Run) -> Iterator[None]:
    """Two processes in one run would spoil each other's checkpoints. Raises InvalidInput where another one,
    of any machine that sees the directory, works in it."""
    lock = FileLock(run.directory / _LOCK)
    holder = lock.take()
    if holder:
        rule = f"must be a run that nobody works in ({holder} does): wait for its end, or stop it"
        raise InvalidInput.of("run", rule, str(run.directory))
    try:
        yield
    finally:
        lock.let_go()


def _do(command: Command, lines: Lines, stop: threading.Event) -> dict[str, object]:
    with _refusing_settings():
        _check_adapter(command.settings)
    if command.name == TRAIN:
        from services.training.pipeline import train

        return train(command.settings, command.run, lines, stop)
    from services.training.evaluate import evaluate

    return evaluate(command.settings, command.run, lines, stop)


def _check_files(command: Command) -> None:
    """Those whose copy is still to be taken, before there is a run to tell of."""
    from services.training.snapshot import is_whole

    source = command.settings.source
    given = {f"--{name}": getattr(source, name) for name in ("events", "items", "users", "relations")}
    found = [
        violation(option, "must be a file that exists", path)
        for option, path in given.items()
        if path and not Path(path).is_file()
    ]
    if found and not is_whole(command.run.snapshot):
        raise InvalidInput(found)


def _check_adapter(settings: TrainSettings) -> None:
    """Settings that only the adapter itself can judge, before minutes of training."""
    if settings.adapter_settings:
        from shared.adapters import make_adapter, make_body_adapter

        if settings.adapts_body:
            make_body_adapter(settings.adapter, **settings.adapter_settings)
        else:
            make_adapter(settings.adapter, adapt_dim=1, rank=1, **settings.adapter_settings)


@contextmanager
def _refusing_settings() -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        raise SettingsRefused(error.violations) from error


@contextmanager
def _no_trace_where_refused(command: Command) -> Iterator[None]:
    """Where its data are refused, a run that never had any leaves no directory that looks like one to resume.

    One that was there before stays as it is: it may hold what is not ours.
    """
    try:
        yield
    except (InvalidInput, NotFound):
        from services.training.snapshot import is_whole

        began = command.settings.data_run or is_whole(command.run.snapshot)
        if command.made_directory and not began:
            shutil.rmtree(command.run.directory, ignore_errors=True)
        raise


def _unexpected(error: Exception, run: Run) -> str:
    return f"{type(error).__name__}: {error} (see {run.logs / LOG})"


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM raises Interrupted in the main thread; later ones change nothing."""

    def handle(number: int, _: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            raise Interrupted(number)

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
