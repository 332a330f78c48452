"""A command as a Ray job: submitted to a cluster's dashboard, followed line by line, stopped with us."""

from __future__ import annotations

import asyncio
import json
import queue
import secrets
import shlex
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from services.training.cluster import RAY_ENVIRONMENT, require_answer, runtime_env
from services.training.lines import Lines
from services.training.options import Submission
from shared.errors import Unavailable

DONE, FAILED = 0, 1
# Of the machine that the job's driver runs on: with the training requirements, as all nodes have them.
_PYTHON = "python"
# What a stopped driver gets to save a checkpoint, before Ray kills it; the command line gives us 30 s.
_STOP_S = 20
_STOPPED_WITHIN_S = 25.0
_TRIES = 30
_TRY_EVERY_S = 2.0
_LAST_WORDS = 15


def submit(submission: Submission, lines: Lines) -> int:
    """Returns the exit code that the command had on the cluster. An interruption stops the job.

    Raises Unavailable where the dashboard does not answer or refuses the job.
    """
    client, job = _client(submission.server), f"warmstart-{secrets.token_hex(6)}"
    follower: Follower | None = None
    try:
        _start(client, job, submission)
        lines.log(f"job {job} at {submission.server}")
        follower = Follower(client, job, lines)
        follower.follow()
    except Unavailable:
        raise  # nothing more can be asked of the cluster
    except BaseException:
        with suppress(RuntimeError):  # it may not have begun
            client.stop_job(job)
        if follower:
            follower.finish(_STOPPED_WITHIN_S)
        raise
    return follower.outcome()


def _client(server: str) -> Any:
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    require_answer(server)
    try:
        return JobSubmissionClient(server)
    except (RuntimeError, ConnectionError, RayError) as error:
        raise Unavailable(f"no dashboard of a Ray cluster answers at {server}: {error}") from error


def _start(client: Any, job: str, submission: Submission) -> None:
    environment = runtime_env()
    environment["env_vars"] = {**RAY_ENVIRONMENT, "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S)}
    command = shlex.join([_PYTHON, "-m", "services.training", *submission.arguments])
    try:
        client.submit_job(entrypoint=command, submission_id=job, runtime_env=environment)
    except (RuntimeError, ConnectionError) as error:
        raise Unavailable(f"the cluster at {submission.server} takes no job: {error}") from error


class Follower:
    """Passes a job's lines on as they come."""

    def __init__(self, client: Any, job: str, lines: Lines) -> None:
        self._client, self._job, self._lines = client, job, lines
        self._log = _Log(client, job)
        self._noise: deque[str] = deque(maxlen=_LAST_WORDS)
        self._ended = False

    def follow(self) -> None:
        """Until the job ends."""
        for text in self._log.lines():
            self._take(text)

    def finish(self, seconds: float) -> None:
        """What a stopped job still says."""
        for text in self._log.lines(seconds):
            self._take(text)

    def outcome(self) -> int:
        """The exit code; says how the job ended where it did not say so itself."""
        info = self._client.get_job_info(self._job)
        if not self._ended:
            words = "\n".join([str(info.message or f"the job is {info.status}"), *self._noise])
            self._lines.error(f"job {self._job} ended without a result: {words}")
        if self._ended and info.driver_exit_code is not None:
            return int(info.driver_exit_code)
        return FAILED

    def _take(self, text: str) -> None:
        line = _line(text)
        if line is None:
            self._noise.append(text)
            return
        self._ended |= line["event"] in ("result", "error")
        self._lines.pass_on(line)


def _line(text: str) -> Mapping[str, Any] | None:
    """A line of a training process; None for what Ray and others write beside them."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and "event" in line else None


class _Log:
    """A job's log, read on a thread: the one who waits for its lines can be interrupted."""

    def __init__(self, client: Any, job: str) -> None:
        self._client, self._job = client, job
        self._lines: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="job-log", daemon=True).start()

    def lines(self, seconds: float | None = None) -> Iterator[str]:
        """Until the job ends, or nothing comes for so long. Raises Unavailable: the log is out of reach."""
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty:
                return
            if line is None:
                return
            if isinstance(line, Exception):
                raise Unavailable(f"job {self._job} cannot be followed, it may go on: {line}") from line
            yield line

    def _read(self) -> None:
        try:
            asyncio.run(self._tail())
            self._lines.put(None)
        except Exception as error:
            self._lines.put(error)

    async def _tail(self) -> None:
        """A connection that breaks is made anew: it gives the log from its beginning again."""
        seen, rest, failures = 0, "", 0
        while True:
            at = 0
            try:
                async for text in self._client.tail_job_logs(self._job):
                    new = text[max(0, seen - at) :]
                    at += len(text)
                    seen = max(seen, at)
                    *whole, rest = (rest + new).split("\n")
                    for line in whole:
                        self._lines.put(line)
                if self._client.get_job_status(self._job).is_terminal():
                    return
            except Exception:
                failures += 1
                if failures > _TRIES:
                    raise
            await asyncio.sleep(_TRY_EVERY_S)
