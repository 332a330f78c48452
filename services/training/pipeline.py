"""The whole training, top to bottom: prepare → pre-train → meta-train → evaluate → publish → promote."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from services.training.cluster import ClusterSettings, ray_session
from services.training.costs import cost, seconds_since
from services.training.data import TrainingData
from services.training.erasures import drop_learnt_from_others, leave_out_erased
from services.training.evaluation.few_shot import ON, OWN_POPULARITY, POPULARITY, FewShot
from services.training.evaluation.protocol import FEWEST_EVENTS
from services.training.jobs import Arm, Job, Plan, Streamed
from services.training.lines import Lines
from services.training.noted import noted_source
from services.training.options import TRAIN, command_line
from services.training.prepare import count_people, is_prepared, load_prepared, prepare
from services.training.private.people import private_people
from services.training.private.run import forget_secret, known_items, private_job
from services.training.publish import Verdict
from services.training.runs import Run
from services.training.service.settings import TrainingServiceSettings
from services.training.settings import SourceSettings, TrainSettings
from services.training.sharing import require_shared
from services.training.snapshot import is_whole
from services.training.sources import take_snapshot
from shared.artifacts import PrivacyInfo, Registry
from shared.domain import ModelRef
from shared.errors import ArtifactError, InvalidInput, WarmstartError
from shared.holdout import Role
from shared.settings import load

CANDIDATE, CHAMPION = ON, "champion"
# Files of the event log: the unit that prepare spreads over cores and machines.
_SHARDS_A_WORKER = 2


def train(settings: TrainSettings, run: Run, lines: Lines, stop: threading.Event) -> dict[str, Any]:
    """Trains one model and publishes it. Returns what the closing line says.

    Goes on from where an interrupted run stopped. Raises Stopped, TrainingFailed, InvalidInput,
    ArtifactError, Unavailable.
    """
    began_s = time.monotonic()
    registry_of(settings)  # a bad key is told now, not once there is something to sign
    cluster = cluster_of(settings)
    arm = Arm("on", settings.adapter, settings.adapter_settings)
    job = job_of(settings, run, "model", settings.seed, (arm,))

    snapshot(settings, run, cluster, lines)
    with session(cluster, run):
        data = prepared_data(settings, run, lines, settings.people_in_memory)
        if settings.private_epsilon is None:
            job, read = replace(job, streamed=streamed(settings, run, data)), data.without_held_out()
        else:
            job, data, read = privately(settings, run, job, data, settings.private_epsilon)
        fit_jobs([job], [read], run, cluster, lines, stop)
        forget_secret(job)
    judged_from_s = time.monotonic()
    table = judge(settings, run, job, arm, data, lines)
    evaluation_s = seconds_since(judged_from_s)
    ref = publish_candidate(settings, job, arm, table, lines)
    verdict = promote(settings, ref, table, lines)

    privacy = Registry(settings.registry).manifest(ref).privacy
    report = write_few_shot_report(settings, run, job, table, evaluation_s, privacy)
    return {
        "run": str(run.directory),
        "version": ref.version,
        "domain": ref.domain,
        "registry": settings.registry,
        "promoted": verdict.passed,
        "reasons": list(verdict.reasons),
        "metrics": {name: table.mean_ndcg(name) for name in table.arms},
        "people": len(table.questions),
        "report": report,
        "seconds": seconds_since(began_s),
        **({"privacy": asdict(privacy)} if privacy else {}),
    }


def privately(
    settings: TrainSettings, run: Run, job: Job, data: TrainingData, epsilon: float
) -> tuple[Job, TrainingData, TrainingData]:
    """The job as a private one; the data on the catalogue alone; and what of it is trained on."""
    data = known_items(data, data_run(settings, run))
    return (
        private_job(job, epsilon, settings.private_delta),
        data,
        private_people(data, settings.private_delta),
    )


def snapshot(settings: TrainSettings, run: Run, cluster: ClusterSettings, lines: Lines) -> None:
    """Copies the source into the run, unless that was done before or another run's data are to be used: then
    who has been erased since is left out, and whatever learnt from them begins anew.

    Raises InvalidInput where the other run has no data.
    """
    copied = data_run(settings, run)
    if is_whole(copied.snapshot):
        leave_out_erased(copied, source_of(settings), settings.domain, lines)
    elif settings.data_run:
        rule = "must be a run whose snapshot is whole (it may have been deleted after its days)"
        raise InvalidInput.of("--data-run", rule, settings.data_run)
    else:
        lines.stage("snapshot")
        shards = _SHARDS_A_WORKER * max(cluster.workers, 1)
        counts = take_snapshot(settings.source, settings.domain, run.snapshot, shards, lines)
        lines.log(", ".join(f"{count} {name}" for name, count in counts.items()))
    drop_learnt_from_others(run, copied.snapshot, lines)


def streamed(settings: TrainSettings, run: Run, data: TrainingData) -> Streamed | None:
    """Whom pre-training streams: everybody, where not all are in memory."""
    prepared = data_run(settings, run).prepared
    return Streamed(prepared, settings.roles()) if count_people(prepared) > data.num_users else None


def prepared_data(settings: TrainSettings, run: Run, lines: Lines, most_people: int = 0) -> TrainingData:
    """Everybody's sequences, or those of `most_people` (0 = all), by Ray Data. Needs a session.

    Raises TooFewPeople where there is nobody to train on or nobody to judge the model by.
    """
    data = everybody(settings, run, lines, most_people)
    counts = {role: len(data.users_of(role)) for role in Role}
    lines.log(
        f"{data.num_events} events of {data.num_users} people on {data.num_items} items; "
        f"{counts[Role.TRAIN]} people train, {counts[Role.VALIDATION]} validate, "
        f"{counts[Role.HELD_OUT]} are held out"
    )
    check_people(data)
    return data


def everybody(settings: TrainSettings, run: Run, lines: Lines, most_people: int = 0) -> TrainingData:
    """The same, whoever they are."""
    source = data_run(settings, run)
    lines.stage("prepare")
    if not is_prepared(source.prepared):
        prepare(source.snapshot, source.prepared)
    data = load_prepared(source.snapshot, source.prepared, settings.roles(), most_people)
    total = count_people(source.prepared) if most_people else data.num_users
    if settings.held_out_users and total == data.num_users:  # of those in memory alone nothing could be said
        check_held_out(settings.held_out_users, settings.held_out_ids(), data.user_ids, lines)
    if total > data.num_users:
        lines.log(
            f"{total} people: pre-training streams them from disk, the rest is learnt from {data.num_users}"
        )
    return data


def check_held_out(file: str, ids: Collection[str], known: Collection[str], lines: Lines) -> None:
    """Says how many of the ids are nobody's. Raises InvalidInput where all are."""
    unknown = sorted(set(ids) - set(known))
    if not unknown:
        return
    told = f"{len(unknown)} of {len(ids)} ids are of nobody among the {len(known)} people"
    if len(unknown) == len(ids):
        rule = f"must name people of the data, but {told} (the first: {unknown[0]!r})"
        raise InvalidInput.of("--held-out-users", rule, file)
    lines.log(f"--held-out-users {file}: {told} (the first: {unknown[0]!r})")


def check_people(data: TrainingData) -> None:
    """Raises TooFewPeople, before any training, where it could not be done or not be judged.

    Both ask for a person's event after at least one other.
    """
    for role, purpose, remedy in (
        (Role.TRAIN, "people to train on", "lower --held-out-share"),
        (Role.HELD_OUT, "held-out people to judge the model by", "raise --held-out-share"),
    ):
        people = data.users_of(role)
        if not np.any(data.lengths[people] >= FEWEST_EVENTS):
            raise TooFewPeople(
                f"{purpose} must be at least 1 with {FEWEST_EVENTS} or more events, got 0 (of {len(people)}; "
                f"{data.num_users} people in all): import more events, {remedy}, "
                "or name the held-out people with --held-out-users"
            )


def fit_jobs(
    jobs: list[Job],
    data: list[TrainingData],
    run: Run,
    cluster: ClusterSettings,
    lines: Lines,
    stop: threading.Event,
) -> None:
    """Pre-trains and meta-trains on Ray Train, as many jobs at a time as the cluster's settings say; what is
    done already costs nothing."""
    from services.training.fit import fit
    from services.training.worker import is_exported

    left = [job for job in jobs if not all(is_exported(job, arm) for arm in job.arms)]
    if not left:
        return
    cluster = replace(cluster, side_by_side=min(cluster.side_by_side, len(left)))
    parts = [left[n :: cluster.side_by_side] for n in range(cluster.side_by_side)]
    threads = cluster.cpus_per_worker
    plans = [Plan(tuple(part), run.progress, run.stop, run.tensorboard, threads) for part in parts]
    fit(plans, data, cluster, run, lines, stop)


def judge(settings: TrainSettings, run: Run, job: Job, arm: Arm, data: TrainingData, lines: Lines) -> FewShot:
    """The k-shot table of the candidate, the baselines and the champion, on held-out people."""
    from services.training.evaluation.few_shot import few_shot
    from services.training.evaluation.private import OwnPopularity
    from services.training.evaluation.protocol import ask, fitting_protocol

    lines.stage("evaluate")
    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    models: dict[str, list[Any]] = {CANDIDATE: [candidate(run, job, arm, settings)]}
    if job.private is not None:
        models[OWN_POPULARITY] = [OwnPopularity(sealed(run, job, arm))]
    champion = serving_champion(settings, data, lines)
    if champion is not None:
        models[CHAMPION] = [champion]
    return few_shot(data, questions, models, task=settings.task, progress=telling(lines))


def publish_candidate(settings: TrainSettings, job: Job, arm: Arm, table: FewShot, lines: Lines) -> ModelRef:
    """Into the registry that servers watch, with its figures in the manifest."""
    from services.training.publish import manifest_metrics, publish

    lines.stage("publish")
    metrics = manifest_metrics(table, CANDIDATE)
    return publish(registry_of(settings), settings.domain, job.export(arm), metrics)


def registry_of(settings: TrainSettings) -> Registry:
    """The one that servers watch, by the keys of the training service (`WARMSTART_TRAINING_REGISTRY_*`)."""
    return load(TrainingServiceSettings).open_registry(str(settings.registry))


def promote(settings: TrainSettings, ref: ModelRef, table: FewShot, lines: Lines) -> Verdict:
    """Makes the version champion where the gate lets it through, and says why or why not."""
    from services.training.publish import gate

    popular = OWN_POPULARITY if OWN_POPULARITY in table.arms else POPULARITY
    verdict = gate(table, CANDIDATE, CHAMPION if CHAMPION in table.arms else None, popular)
    passed = {"auto": verdict.passed, "always": True, "never": False}[settings.promote]
    if settings.promote != "auto":
        verdict = Verdict(passed, (*verdict.reasons, f"--promote {settings.promote}"))
    for reason in verdict.reasons:
        lines.log(reason)
    if passed:
        registry_of(settings).promote(settings.domain, ref.version)
    lines.log(f"{ref.version} {'is champion now' if passed else 'is published but not promoted'}")
    return verdict


class TooFewPeople(WarmstartError):
    """There is nobody to train on, or nobody to judge the model by."""

    code = "FAILED_PRECONDITION"
    reason = "TOO_FEW_PEOPLE"


def telling(lines: Lines, stage: str = "evaluate") -> Callable[[int, int], None]:
    """Reports the evaluation's steps."""
    return lambda done, total: lines.progress(stage, done, total)


def cluster_of(settings: TrainSettings) -> ClusterSettings:
    """As the options say; at most one training a core of this machine."""
    alone = ClusterSettings(settings.address, settings.workers, settings.cpus, settings.restarts)
    at_most = max(1, alone.local_cpus // alone.workers) if alone.local else 1
    return replace(alone, side_by_side=settings.side_by_side or at_most)


def source_of(settings: TrainSettings) -> SourceSettings:
    """Where the data came from, also those of another run; its feature service may be elsewhere now."""
    if not settings.data_run:
        return settings.source
    source = noted_source(Path(settings.data_run), "--data-run")
    elsewhere = settings.source.features_target
    return replace(source, features_target=elsewhere) if elsewhere and source.features_target else source


def data_name(settings: TrainSettings) -> str:
    """What people call the data; nothing where they are of a feature service."""
    source = source_of(settings)
    return source.dataset or Path(source.events).name


def data_run(settings: TrainSettings, run: Run) -> Run:
    """The run whose snapshot is read."""
    return Run(Path(settings.data_run).resolve()) if settings.data_run else run


def job_of(
    settings: TrainSettings, run: Run, name: str, seed: int, arms: tuple[Arm, ...], data: int = 0
) -> Job:
    """One pre-training by the options."""
    return Job(
        name=name,
        directory=run.jobs / name,
        seed=seed,
        preset=settings.preset,
        arms=arms,
        data=data,
        pretrain_steps=settings.pretrain_steps,
        meta_steps=settings.meta_steps,
    )


@contextmanager
def session(cluster: ClusterSettings, run: Run) -> Iterator[None]:
    """Ray, while TensorFlow is imported beside it: the trainer needs both, and each takes seconds."""
    importing = threading.Thread(target=import_module, args=("tensorflow",), daemon=True)
    importing.start()
    with ray_session(cluster, run.logs / "ray"):
        if not cluster.local:
            require_shared(run.directory)
        importing.join()
        yield


def sealed(run: Run, job: Job, arm: Arm) -> Any:
    """A finished export in the run's own registry, as `Saved`."""
    from services.training.evaluation.served import Saved
    from services.training.publish import publish

    name = f"{job.name}-{arm.name}"
    shutil.rmtree(run.registry / name, ignore_errors=True)  # of an interrupted run
    return Saved(run.registry, publish(Registry(run.registry), name, job.export(arm)))


def candidate(run: Run, job: Job, arm: Arm, settings: TrainSettings) -> Any:
    """The same, loaded as servers load it."""
    return sealed(run, job, arm).load(threads=cluster_of(settings).local_cpus)


def serving_champion(settings: TrainSettings, data: TrainingData, lines: Lines) -> Any:
    """The champion with rows for today's catalogue; None where there is none that can be compared."""
    from services.training.evaluation.served import ServedArtifact

    registry = registry_of(settings)
    ref = registry.champion(settings.domain)
    if ref is None:
        return None
    try:
        champion = ServedArtifact.load(registry.open(ref), threads=cluster_of(settings).local_cpus)
        champion.add_items(data.item_ids, data.content)
    except ArtifactError as error:
        lines.log(f"the champion {ref.version} cannot be compared with: {error}")
        return None
    return champion


def write_few_shot_report(
    settings: TrainSettings,
    run: Run,
    job: Job,
    table: FewShot,
    evaluation_s: float,
    privacy: PrivacyInfo | None = None,
) -> dict[str, str]:
    """evaluation_s: seconds that the table took."""
    from services.training.evaluation.few_shot_report import few_shot_dict
    from services.training.evaluation.report import write_report

    report = {
        "data": data_name(settings),
        "domain": settings.domain,
        "preset": settings.preset,
        "command": command_line(TRAIN, settings),
        "seeds": 1,
        "cost": cost([job]),
        "few_shot": few_shot_dict(table, settings.task),
        "evaluation_seconds": evaluation_s,
        **({"privacy": asdict(privacy)} if privacy else {}),
    }
    return write_report(run.evaluation, report)
