"""One training's process: `python -m services.training train --resume RUN`, started, followed, stopped."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import psutil

from services.training.command import LOG
from services.training.options import TRAIN
from services.training.runs import Run
from services.training.service.training import ProcessMark
from shared.processes.family import family_of, has_ended, kill
from shared.processes.scratch import sweep_ray_directories
from shared.processes.trainer import Line, command, ending, parse_line

_LOOK_EVERY_S = 0.05
# Start times are counted from the boot's, which moves a little when the clock is set.
_SAME_START_S = 1.0


class TrainingProcess:
    """A started process. Its standard error goes where its libraries' noise goes, to its run's log.

    A thread reads what it says. asyncio's own processes will not do: uvloop forks, and a fork of a process
    that serves gRPC aborts, now and then, in gRPC's threads; subprocess leaves them alone (vfork).
    """

    def __init__(self, process: subprocess.Popen[bytes], run: Run, noise_from: int) -> None:
        self._process = process
        self._log = run.logs / LOG
        self._noise_from = noise_from
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._code: asyncio.Future[int] = self._loop.create_future()
        threading.Thread(target=self._read, name="training", daemon=True).start()

    @classmethod
    def start(cls, run: Run, program: Sequence[str]) -> TrainingProcess:
        """Call it on an event loop of the main thread: the leash ties to the thread that starts the process.

        Raises OSError.
        """
        run.logs.mkdir(parents=True, exist_ok=True)
        with (run.logs / LOG).open("ab") as noise:
            noise_from = noise.tell()
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command([TRAIN, "--resume", str(run.directory)], program),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=noise,
                start_new_session=True,  # signals reach it through us alone
            )
        return cls(process, run, noise_from)

    @property
    def mark(self) -> ProcessMark | None:
        """None where it has ended already."""
        try:
            return ProcessMark(self._process.pid, psutil.Process(self._process.pid).create_time())
        except psutil.NoSuchProcess:
            return None

    async def lines(self) -> AsyncIterator[Line]:
        """Until it closes its output; once. Raises ValueError where it writes what is no line."""
        while (text := await self._said.get()) is not None:
            yield parse_line(text.decode(errors="replace"))

    async def code(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.shield(self._code)

    def ending(self, code: int) -> str:
        """How it died, where it gave neither result nor error."""
        with self._log.open("rb") as log:
            log.seek(self._noise_from)
            said = ending(code, log.read().decode(errors="replace"))
        return f"{said}\nlog: {self._log}"

    async def stop(self, within_s: float) -> None:
        """First by asking, so that the run can be resumed; then by force. Its children go with it."""
        family = family_of(self._process.pid)
        self._process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await self.code()
        except TimeoutError:
            family += family_of(self._process.pid)
            self._process.kill()
        kill(family)  # before the last wait, which ends no sooner than who holds its output
        await self.code()
        await asyncio.to_thread(sweep_ray_directories)

    def _read(self) -> None:
        """On a thread of its own, to the process's end."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        with self._process.stdout as said, suppress(RuntimeError):  # the loop is closed: nobody waits
            for text in said:
                self._loop.call_soon_threadsafe(self._said.put_nowait, text)
            self._loop.call_soon_threadsafe(self._said.put_nowait, None)
            self._loop.call_soon_threadsafe(self._code.set_result, self._process.wait())


def left_over(mark: ProcessMark | None) -> psutil.Process | None:
    """The process that an earlier server started, where it is still there."""
    if mark is None:
        return None
    try:
        process = psutil.Process(mark.pid)
        same = abs(process.create_time() - mark.started_s) < _SAME_START_S
        return process if same and not has_ended(process) else None
    except psutil.NoSuchProcess:
        return None


async def end_left_over(process: psutil.Process, within_s: float) -> None:
    """As `TrainingProcess.stop`, for a process that is no child of ours. Its leash has asked it already."""
    family = family_of(process.pid)
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    try:
        async with asyncio.timeout(within_s):
            while not has_ended(process):  # noqa: ASYNC110 - nobody tells the end of another's child
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        family += [*family_of(process.pid), process]
    kill(family)
