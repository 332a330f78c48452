"""Which failures of workers a run outlives: losing one, whatever killed it. What training raises ends it.

A worker that dies (out of memory, a machine that goes away, kill -9) takes the others along, since they wait
for it in the all-reduce. Ray Train then starts all of them anew, and they go on from the newest checkpoint.
It would do so after any error, but one that training itself raises would only come again.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ray.exceptions import ObjectLostError, RayActorError
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

# How Ray Train's controller sees a worker that died or hangs.
_DEATHS = (WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError, RayActorError)
_DETAIL = "Worker exit detail: "
_SHOWN_CHARS = 200
# Workers take longer than this to start again and to die.
_SAME_LOSS_S = 5.0


class PeerLost(Exception):
    """A worker cannot go on because another one is gone. Not the cause: the other's death is."""


class RestartAfterDeaths(UserCallback):  # type: ignore[misc]
    """Runs in Ray Train's controller, on the driver's machine: notes each loss of workers in a file that the
    driver reads, and ends the run at once where training itself failed or was told to stop."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._last: Mapping[str, object] = {}
        self._last_s = 0.0

    def after_exception(self, run_context: object, worker_exceptions: Mapping[int, Exception]) -> None:
        """Raises what ends the run: Ray Train restarts workers only where its callbacks raise nothing."""
        for error in worker_exceptions.values():
            if not isinstance(error, (*_DEATHS, ObjectLostError, PeerLost)):
                raise error
        dead = [number for number, error in worker_exceptions.items() if isinstance(error, _DEATHS)]
        self._note(
            {
                "workers": dead or list(worker_exceptions),
                "why": why(worker_exceptions),
                "preempted": any(_is_preempted(error) for error in worker_exceptions.values()),
            }
        )

    def _note(self, note: Mapping[str, object]) -> None:
        """Once a loss: while a machine is taken back, the controller hears of the same one twice a second."""
        now_s = time.monotonic()
        again = note == self._last and now_s - self._last_s < _SAME_LOSS_S
        self._last, self._last_s = note, now_s
        if not again:
            with self._notes.open("a", encoding="utf-8") as file:
                file.write(json.dumps(note) + "\n")


def _is_preempted(error: Exception) -> bool:
    """Whether a worker went with a machine that was taken back."""
    return bool(getattr(getattr(error, "health_check_failure", error), "preempted", False))


def why(failures: Mapping[int, Exception]) -> str:
    """One line on how workers were lost: what is known of one that died, else what another one says."""
    errors = sorted(failures.values(), key=lambda error: not isinstance(error, _DEATHS))
    error = getattr(errors[0], "health_check_failure", errors[0])
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line.partition(_DETAIL)[2] for line in lines if _DETAIL in line]
    line = (told or lines or [type(error).__name__])[0]
    return line.partition(" Some common causes")[0][:_SHOWN_CHARS]


@contextmanager
def telling_what_failed(workers: int) -> Iterator[None]:
    """Around a worker's work: what TensorFlow raises in an all-reduce whose other end is gone is PeerLost;
    other errors take their traceback along, which would not travel to the driver by itself."""
    import tensorflow as tf

    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    )
    try:
        yield
    except Exception as error:
        if workers > 1 and isinstance(error, gone):
            traceback.print_exc()  # into this worker's log: an internal error may be its own
            raise PeerLost(str(error)) from None
        error.add_note(traceback.format_exc())
        raise
