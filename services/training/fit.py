"""Runs a plan on Ray Train's TensorflowTrainer and relays what its workers say while they work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

from services.training.cluster import ClusterSettings
from services.training.data import TrainingData
from services.training.jobs import Plan
from services.training.lines import Lines
from services.training.runs import Run
from services.training.sharing import say_what_is_waited_for
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


class WorkersLost(Exception):
    """Workers died more often than they are started again."""


def fit(
    plans: Sequence[Plan],
    data: Sequence[TrainingData],
    cluster: ClusterSettings,
    run: Run,
    lines: Lines,
    stop: Event,
) -> None:
    """Returns when every job of the plans is done, whatever workers died meanwhile. Needs a Ray session.

    plans: as many as trainings go side by side, each with workers of its own. data: what the jobs read; must
    hold nothing of held-out people. Raises Stopped when `stop` is set, TrainingFailed with the worker's own
    message, or where workers died more than `cluster.restarts` times; one that fails ends the others.
    """
    import ray

    say_what_is_waited_for(cluster, lines)
    held = [ray.put(d) for d in data]
    trainers = [_trainer(plan, f"ray-train-{n}", held, cluster, run) for n, plan in enumerate(plans)]
    run.stop.unlink(missing_ok=True)  # of an earlier, interrupted run
    with relay(run, cluster, lines) as pass_on:
        futures = [_started(trainer) for trainer in trainers]
        try:
            while not all(future.done() for future in futures):
                if stop.wait(_LOOK_EVERY_S):
                    raise Stopped("stopped; go on with --resume")
                pass_on()
                for future in futures:
                    if future.done():
                        _outcome(future)
            pass_on()
        except BaseException:
            run.stop.touch()
            if not all(_done_within(future, _STOP_S) for future in futures):
                ray.shutdown()  # ends the workers
            raise
    for future in futures:
        _outcome(future)


def _trainer(plan: Plan, name: str, data: Sequence[Any], cluster: ClusterSettings, run: Run) -> Any:
    """data: references to what the jobs read."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    from services.training.backend import TensorflowBackendConfig
    from services.training.failures import RestartAfterDeaths

    return TensorflowTrainer(
        train_worker,
        train_loop_config={"plan": plan, "data": list(data)},
        tensorflow_config=TensorflowBackendConfig(),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            resources_per_worker={"CPU": cluster.cpus_per_worker},
            placement_strategy=cluster.placement,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(run.directory),
            # Nodes that a cloud takes back count apart, without a limit.
            failure_config=FailureConfig(cluster.restarts, controller_failure_limit=cluster.restarts),
            callbacks=[RestartAfterDeaths(run.lost)],
        ),
    )


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
        why = cause(error)
        text = str(why).strip().splitlines() or [""]
        # Ours are sentences for people.
        said = text[-1] if isinstance(why, WarmstartError) else f"{type(why).__name__}: {text[-1]}"
        raise TrainingFailed(f"training failed: {said}") from why


def cause(error: Exception) -> Exception:
    """The worker's own error rather than Ray Train's wrapping of it."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        from services.training.failures import why

        return WorkersLost(f"{why(failures)}, and no restarts are left")
    inner: Exception = getattr(error, "controller_failure", error)
    return getattr(inner, "cause", None) or inner


@contextmanager
def relay(run: Run, cluster: ClusterSettings, lines: Lines) -> Iterator[Callable[[], None]]:
    """Yields what passes on the news of the workers' progress and, from the controllers, of their deaths.

    Of trainings side by side, stages have the job's name with them and begin beside each other.
    """
    beside = cluster.side_by_side > 1
    begun, losses = [""], 0
    with _news(run.progress) as progress, _news(run.lost) as lost:

        def pass_on() -> None:
            nonlocal losses
            for said in progress():
                if "message" in said:
                    lines.log(said["message"])
                    continue
                stage = f"{said['stage']} {said['job']}" if beside else said["stage"]
                if stage not in (begun if beside else begun[-1:]):
                    begun.append(stage)
                    lines.stage(stage, beside=beside)
                lines.progress(stage, said["step"], said["total"], said["metrics"])
            for loss in lost():
                losses += not loss["preempted"]
                lines.log(_loss_message(loss, losses, cluster.restarts))

        yield pass_on


def _loss_message(loss: Mapping[str, Any], number: int, restarts: int) -> str:
    """One sentence on workers that died. loss: a line of `Run.lost`; number: how many losses there were.

    Machines that a cloud takes back do not count.
    """
    who = " and ".join(str(worker) for worker in loss["workers"])
    died = f"worker{'s' if len(loss['workers']) > 1 else ''} {who} died ({loss['why']})"
    again = f"{died}: all workers start again, from the newest checkpoint"
    if loss["preempted"]:
        return again
    return f"{again} (restart {number} of {restarts})" if number <= restarts else died


@contextmanager
def _news(path: Path) -> Iterator[Callable[[], list[Any]]]:
    """Yields what reads the lines of JSON that others have appended to a file since: what an interrupted run
    told is old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open(encoding="utf-8") as file:
        file.seek(0, 2)
        rest = ""

        def read() -> list[Any]:
            nonlocal rest
            *whole, rest = (rest + file.read()).split("\n")
            found = []
            for line in whole:
                with suppress(ValueError):  # half a line of a worker that was killed while it wrote
                    found.append(json.loads(line))
            return found

        yield read
