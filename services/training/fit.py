"""Runs a plan on Ray Train's TensorflowTrainer and relays what its workers say while they work."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any

from services.training.cluster import ClusterSettings
from services.training.data import TrainingData
from services.training.jobs import Plan
from services.training.lines import Lines
from services.training.worker import train_worker
from shared.errors import WarmstartError

_LOOK_EVERY_S = 0.2
# What workers get to stop by themselves: a few steps, but not the tracing of a function.
_STOP_S = 5.0
_THREAD = "ray-train"


class Stopped(WarmstartError):
    """The run was told to stop; it can be resumed."""

    code = "CANCELLED"
    reason = "STOPPED"


class TrainingFailed(WarmstartError):
    """A worker failed; the run can be resumed."""

    reason = "TRAINING_FAILED"


def fit(
    plan: Plan,
    data: Sequence[TrainingData],
    cluster: ClusterSettings,
    storage: Path,
    lines: Lines,
    stop: Event,
) -> None:
    """Returns when every job of the plan is done. Needs a Ray session.

    data: what the jobs read; must hold nothing of held-out people. Raises Stopped when `stop` is set,
    TrainingFailed with the worker's own message.
    """
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    from services.training.backend import TensorflowBackendConfig

    trainer = TensorflowTrainer(
        train_worker,
        train_loop_config={"plan": plan, "data": [ray.put(d) for d in data]},
        tensorflow_config=TensorflowBackendConfig(local=cluster.local),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers, resources_per_worker={"CPU": cluster.cpus_per_worker}
        ),
        run_config=RunConfig(name="ray-train", storage_path=str(storage)),
    )
    plan.progress.parent.mkdir(parents=True, exist_ok=True)
    plan.progress.touch()
    plan.stop.unlink(missing_ok=True)  # of an earlier, interrupted run
    with plan.progress.open(encoding="utf-8") as told:
        told.seek(0, 2)  # what an earlier, interrupted run told is old news
        relay = _Relay(lines)
        future = _started(trainer)
        try:
            while not future.done():
                if stop.wait(_LOOK_EVERY_S):
                    raise Stopped("stopped; go on with --resume")
                relay.take(told.read())
            relay.take(told.read())
        except BaseException:
            plan.stop.touch()
            if not _done_within(future, _STOP_S):
                ray.shutdown()  # ends the workers
            raise
    _outcome(future)


def waits_for_ray() -> bool:
    """True where a thread still waits for a training that Ray was shut down under: it may do so for ever."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


def _started(trainer: Any) -> Future[Any]:
    """`trainer.fit` on a thread that the process need not wait for."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(trainer.fit())
        except BaseException as error:  # handed to the one who waits
            future.set_exception(error)

    threading.Thread(target=run, name=_THREAD, daemon=True).start()
    return future


def _done_within(future: Future[Any], seconds: float) -> bool:
    try:
        future.exception(timeout=seconds)
    except TimeoutError:
        return False
    return True


def _outcome(future: Future[Any]) -> None:
    try:
        future.result()
    except Exception as error:
        raise TrainingFailed(f"training failed: {_root_message(error)}") from error


def _root_message(error: BaseException) -> str:
    """The worker's own error rather than Ray's wrapping of it."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[-1] if text else ''}"


class _Relay:
    """Turns the workers' progress lines into the driver's."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._rest = ""
        self._stage = ""

    def take(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            said = json.loads(line)
            if said["stage"] != self._stage:
                self._stage = said["stage"]
                self._lines.stage(self._stage)
            self._lines.progress(said["stage"], said["step"], said["total"], said["metrics"])
