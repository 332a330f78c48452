"""The training loop of one Ray Train worker: pre-train, meta-train, adapt, export. Runs on every worker
alike; only the first one writes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from services.training.agreement import FirstSays, agreed, alone
from services.training.cost import Cost, together
from services.training.data import TrainingData
from services.training.jobs import BODY_FILE, NO_ADAPTER, Arm, Job, Plan
from services.training.runs import write_atomically
from shared.artifacts import PrivacyInfo
from shared.domain import Calibration
from shared.trends import HALF_LIFE_S

DRAFT_FILE = "draft.json"
_REPORT_EVERY_STEPS = 5
_REPORT_AT_MOST_EVERY_S = 0.3
_CHECKPOINTS_A_STAGE = 8
_LIBRARIES = ("tensorflow", "keras", "numpy", "ray")


def train_worker(config: Mapping[str, Any]) -> None:
    """Does the plan. config: `plan`, a Plan, and `data`, a list of object references to TrainingData."""
    import ray
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero

    from services.training.failures import telling_what_failed

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    plan: Plan = config["plan"]
    context = ray.train.get_context()
    first, workers = context.get_world_rank() == 0, context.get_world_size()
    first_says = broadcast_from_rank_zero if workers > 1 else alone
    strategy = _strategy(workers, plan.threads)
    with telling_what_failed(workers), Reporter(plan, writes=first, first_says=first_says) as reporter:
        reporter.tell_places(_hosts())
        for job in plan.jobs:
            data: TrainingData = ray.get(config["data"][job.data])
            do_job(job, data, strategy, reporter)


class Reporter(AbstractContextManager["Reporter"]):
    """Tells the driver how far it is (lines of JSON in the plan's progress file) and TensorBoard how well.

    first_says: how all workers come to know what the first one finds in the run's directory.
    """

    def __init__(self, plan: Plan, *, writes: bool, first_says: FirstSays = alone) -> None:
        self.writes = writes
        self.first_says = first_says
        self._plan = plan
        self._file = plan.progress.open("a", encoding="utf-8") if writes else None
        self._boards: dict[str, Any] = {}
        self._told_s = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        for board in self._boards.values():
            board.close()

    def progress(self, job: Job, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """At most every 0.3 s, but always the last step."""
        if self._file is None:
            return
        board = self._board(job.name)
        for name, value in metrics.items():
            board.add_scalar(f"{stage}/{name}", value, step)
        now_s = time.monotonic()
        if step < total and now_s - self._told_s < _REPORT_AT_MOST_EVERY_S:
            return
        self._told_s = now_s
        told = {"job": job.name, "stage": stage, "step": step, "total": total, "metrics": dict(metrics)}
        self._file.write(json.dumps(told) + "\n")
        self._file.flush()

    def tell_places(self, hosts: Sequence[str]) -> None:
        """Says on which machines the workers are, where they are on several."""
        if self._file and len(set(hosts)) > 1:
            self._file.write(json.dumps({"message": f"workers on {', '.join(hosts)}"}) + "\n")
            self._file.flush()

    def stopping(self) -> bool:
        """Whether the driver wants no more of this run."""
        return self._plan.stop.exists()

    def _board(self, job: str) -> Any:
        """TensorBoard's event file of a job. (`tf.summary` would need TensorBoard itself installed.)"""
        from tensorboardX import SummaryWriter

        if job not in self._boards:
            self._boards[job] = SummaryWriter(str(self._plan.tensorboard / job), write_to_disk=True)
        return self._boards[job]


def do_job(job: Job, data: TrainingData, strategy: Any, reporter: Reporter) -> None:
    """One body, pre-trained and meta-trained, then each arm's adapter on top of it; what an interrupted run
    has finished is not done again."""
    from services.training.adapt import fit_adapter
    from services.training.follow import follow_trends
    from services.training.loop import TrainState
    from services.training.metatrain import meta_train
    from services.training.presets import preset
    from services.training.pretrain import empty_model, new_model, pretrain
    from services.training.prior import scale_prior
    from services.training.ratings import fit_ratings, has_ratings, share_stars

    missing = _missing(job, reporter)
    if not missing:
        return
    if job.private is not None:
        from services.training.private.job import do_private_job

        (arm,) = job.arms
        (job.directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        do_private_job(job, job.private, arm, data, strategy, reporter)
        return
    chosen = preset(job.preset)
    sizes, pretraining = (chosen.model, chosen.pretrain) if job.meta_trained else chosen.sequence_model()
    rating_dim = sizes.rating_dim if has_ratings(data) else 0
    sizes = replace(sizes, content_dim=data.content.shape[1], rating_dim=rating_dim)
    pretraining = replace(pretraining, steps=job.pretrain_steps or pretraining.steps)
    meta_training = replace(chosen.meta, steps=job.meta_steps or chosen.meta.steps)
    (job.directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    body = new_model(_unadapted(sizes), data, seed=job.seed, strategy=strategy)

    def trained(stage: str, train: Callable[..., dict[str, float]], config: Any) -> Mapping[str, float]:
        """One stage of the body, unless it is done already. Returns its figures."""
        done = state_at(job.done(stage), reporter)
        if done is not None:
            body.load_arrays(done.arrays)
            figures: Mapping[str, float] = done.figures
            return figures
        hooks, cost = hooks_of(job, stage, config.steps, reporter)
        last = train(body, data, config, seed=job.seed, strategy=strategy, hooks=hooks)
        done = TrainState(stage, config.steps, body.state_arrays(), figures_of(hooks, last, cost))
        save_state(done, job.done(stage), writes=reporter.writes)
        drop_checkpoint(job, stage, reporter)
        return done.figures

    def copy_of_body(arm: Arm) -> Any:
        model = empty_model(_with_adapter(sizes, arm), data, seed=job.seed, strategy=strategy)
        model.load_arrays(body.state_arrays())
        return model

    stages = {"pretrain": trained("pretrain", partial(pretrain, stored=_stored(job, data)), pretraining)}
    for arm in missing:
        if arm.pretrained:
            model = copy_of_body(arm)
            scale_prior(model, data)
            if reporter.writes:
                export(job, arm, model, data, together(stages))
    if job.meta_trained:
        stages["meta-train"] = trained("meta-train", meta_train, meta_training)
    if not all(arm.pretrained for arm in missing):
        scale_prior(body, data)  # for all of them, whose state at no shots is the same
    for arm in missing:
        if arm.pretrained:
            continue
        model = copy_of_body(arm)
        if _adapts_body(arm):
            _do_body_arm(job, arm, model, data, strategy, reporter)
            drop_checkpoint(job, f"adapt-{arm.name}", reporter)
            continue
        hooks, cost = hooks_of(job, f"adapt-{arm.name}", chosen.adapt.steps, reporter)
        fitted = fit_adapter(model, data, chosen.adapt, seed=job.seed, strategy=strategy, hooks=hooks)
        fitted |= fit_ratings(model, data, seed=job.seed)
        share_stars(model, data, chosen.adapt.validation_shots)
        follow_trends(model, data, (0, *chosen.adapt.validation_shots), seed=job.seed)
        if reporter.writes:
            figures = together({**stages, "adapt": figures_of(hooks, fitted, cost)})
            export(job, arm, model, data, figures)
        drop_checkpoint(job, f"adapt-{arm.name}", reporter)


def _stored(job: Job, data: TrainingData) -> Any:
    """The people to stream, if any."""
    if job.streamed is None:
        return None
    from services.training.stream import stored_people

    return stored_people(job.streamed.prepared, job.streamed.roles, data)


def is_exported(job: Job, arm: Arm) -> bool:
    """Whether an arm is finished."""
    return any((job.export(arm) / name).is_file() for name in (DRAFT_FILE, BODY_FILE))


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a private training tells of its people, in place of what they did: calibrations by task, how many
    they are, and what telling it all cost (None where there was no noise)."""

    calibrations: Mapping[str, tuple[Calibration, ...]]
    people: int
    privacy: PrivacyInfo | None


def export(
    job: Job,
    arm: Arm,
    model: Any,
    data: TrainingData,
    metrics: Mapping[str, float],
    told: Told | None = None,
) -> None:
    """Writes the files of a version and the draft of its manifest; the directory appears whole.

    told: of a private training; nothing else of the people is written then.
    """
    from services.training.calibrate import calibrate
    from shared.artifacts import VocabularyItem, write_items, write_rows
    from shared.modeling.config import task_infos
    from shared.modeling.export import export_saved_model, manifest_dims, manifest_scales, row_arrays

    fresh = job.directory / f".exporting-{arm.name}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    export_saved_model(model, fresh / "saved_model")
    write_rows(fresh, row_arrays(model))
    items = [VocabularyItem(*row) for row in zip(data.item_ids, data.titles, data.categories, strict=True)]
    write_items(fresh, items)
    config = model.config
    calibrations = told.calibrations if told else calibrate(model, data)
    draft = {
        "dims": manifest_dims(config),
        "buckets": list(config.buckets),
        "tasks": [asdict(task) for task in task_infos(calibrations, model.offsets())],
        "adapter": {"name": config.adapter, "settings": dict(config.adapter_settings)},
        "uncertainty_rank": config.uncertainty_rank,
        "trends": {"prior": model.trends.prior, "half_life_s": HALF_LIFE_S},
        "model": {
            **config.as_dict(),
            "preset": job.preset,
            "seed": job.seed,
            "scales": manifest_scales(model),
        },
        "data": _people_of(data) if told is None else {"users": told.people, "items": data.num_items},
        "metrics": {k: float(v) for k, v in metrics.items()},
        "libraries": {name: version(name) for name in _LIBRARIES},
        "privacy": asdict(told.privacy) if told and told.privacy else None,
    }
    (fresh / DRAFT_FILE).write_text(json.dumps(draft, indent=2))
    shutil.rmtree(job.export(arm), ignore_errors=True)
    fresh.rename(job.export(arm))


def _people_of(data: TrainingData) -> dict[str, int]:
    """What is told of the data."""
    return {
        "events": data.num_events,
        "users": data.num_users,
        "items": data.num_items,
        "from_ms": int(data.time_ms.min()),
        "until_ms": int(data.time_ms.max()),
    }


def _hosts() -> list[str]:
    """Of all workers, as the backend has told them to each other."""
    addresses = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}).get("worker", [])
    return [address.rpartition(":")[0] for address in addresses]


def _strategy(workers: int, threads: int) -> Any:
    """None for one worker; else data-parallel over all of them."""
    import tensorflow as tf

    # Small operations gain from a second core side by side and lose split up: 55 against 100 ms a step.
    tf.config.threading.set_intra_op_parallelism_threads(max(1, threads // 2))
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf.distribute.MultiWorkerMirroredStrategy() if workers > 1 else None


def _adapts_body(arm: Arm) -> bool:
    from shared.adapters import BODY, scope_of

    return scope_of(arm.adapter, arm.settings) == BODY


def _do_body_arm(
    job: Job, arm: Arm, model: Any, data: TrainingData, strategy: Any, reporter: Reporter
) -> None:
    from services.training.body_arm import do_body_arm
    from services.training.presets import preset

    config = preset(job.preset).body
    hooks, _ = hooks_of(job, f"adapt-{arm.name}", config.steps, reporter)
    do_body_arm(job, arm, model, data, config, strategy=strategy, hooks=hooks, writes=reporter.writes)


def _with_adapter(sizes: Any, arm: Arm) -> Any:
    if _adapts_body(arm) or arm.adapter == NO_ADAPTER:
        return _unadapted(sizes)
    return replace(sizes, adapter=arm.adapter, adapter_settings=dict(arm.settings))


def _unadapted(sizes: Any) -> Any:
    """Without what adapts a person: no fast weights, and no transitions."""
    return replace(sizes, adapter=NO_ADAPTER, successors=0)


def hooks_of(job: Job, stage: str, steps: int, reporter: Reporter) -> tuple[Any, Cost]:
    """Progress and checkpoints of a stage, where to go on from if it was interrupted, and what it costs."""
    from services.training.loop import Hooks, TrainState

    path = job.checkpoint(stage)
    resume = state_at(path, reporter)
    cost = Cost(resume.figures if resume else {})

    newest: dict[str, float] = {}

    def on_step(step: int, total: int, metrics: Mapping[str, float]) -> None:
        newest.update(metrics)
        reporter.progress(job, stage, step, total, metrics)

    def on_checkpoint(state: TrainState) -> None:
        save_state(replace(state, figures={**newest, **cost.figures()}), path, writes=reporter.writes)

    hooks = Hooks(
        on_step=on_step,
        report_every=_REPORT_EVERY_STEPS,
        on_checkpoint=on_checkpoint,
        checkpoint_every=max(1, steps // _CHECKPOINTS_A_STAGE),
        resume=resume,
        stopping=reporter.stopping,
    )
    return hooks, cost


def figures_of(hooks: Any, last: Mapping[str, float], cost: Cost) -> dict[str, float]:
    """What is told of a finished stage; metrics of a checkpoint after which no step was left are its own."""
    before = hooks.resume.figures if hooks.resume else {}
    return {**before, **last, **cost.figures()}


def drop_checkpoint(job: Job, stage: str, reporter: Reporter) -> None:
    """What is finished is not gone on with: done anew, it begins anew."""
    if reporter.writes:
        job.checkpoint(stage).unlink(missing_ok=True)


def _missing(job: Job, reporter: Reporter) -> list[Arm]:
    """The arms that are still to be made, the same on all workers."""
    return agreed(
        lambda: [arm for arm in job.arms if not is_exported(job, arm)],
        lambda arms: " ".join(["missing", *(arm.name for arm in arms)]),
        reporter.first_says,
    )


def state_at(path: Path, reporter: Reporter) -> Any:
    """The state that a file holds, the same on all workers; None where there is none."""
    from services.training.loop import TrainState

    return agreed(
        lambda: TrainState.load(path) if path.is_file() else None,
        lambda state: f"{path.name}: {state.step} steps" if state else f"no {path.name}",
        reporter.first_says,
    )


def save_state(state: Any, path: Path, *, writes: bool) -> None:
    if not writes:
        return
    fresh = path.with_name(f".{path.name}")
    state.save(fresh)
    write_atomically(path, fresh.read_bytes())
    fresh.unlink()
