"""The whole evaluation: models of several seeds are trained without the held-out people, and asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.training.cluster import ClusterSettings
from services.training.costs import cost, seconds_since
from services.training.data import HeldOutItems, TrainingData
from services.training.evaluation.few_shot import (
    BLIND,
    FAST_WEIGHTS,
    OFF,
    ON,
    RE_ENCODING,
    TIMELESS,
    FewShot,
)
from services.training.evaluation.spread import Call, over_ray
from services.training.jobs import BODY_FILE, FINE_TUNE, NO_ADAPTER, Arm, Job
from services.training.lines import Lines
from services.training.options import EVALUATE, command_line
from services.training.pipeline import (
    TooFewPeople,
    candidate,
    cluster_of,
    data_name,
    data_run,
    everybody,
    fit_jobs,
    job_of,
    prepared_data,
    sealed,
    session,
    snapshot,
    telling,
)
from services.training.private.people import private_people
from services.training.private.run import forget_secret, known_items, private_job
from services.training.runs import Run
from services.training.settings import TrainSettings
from shared.holdout import Role
from shared.modeling.config import NEXT_TASK

FEW_SHOT, ADAPTATION, NEW_ITEMS, FEEDBACK, ALL = "few-shot", "adaptation", "new-items", "feedback", "all"
LEAVE_ONE_OUT, RATING, ADAPTERS, PRIVATE = "leave-one-out", "rating", "adapters", "private"
# What `adapters` compares: each that can be served, and the variants of `gradient` (ANIL; first order;
# Meta-SGD).
COMPARED = (
    Arm("ridge", "ridge"),
    Arm("gradient", "gradient"),
    Arm("gradient-first-order", "gradient", {"first_order": True}),
    Arm("gradient-learned-rates", "gradient", {"learned_rates": True}),
    Arm("amortised", "amortised"),
)
_NEW_ITEMS_JOB = "new-items"


def evaluate(settings: TrainSettings, run: Run, lines: Lines, stop: threading.Event) -> dict[str, Any]:
    """Trains what the protocol needs, measures it as it would be served, writes the report.

    Every seed's two arms stand on the same body, pre-trained and meta-trained: without an adapter
    ("adaptation off") and with the one asked for ("adaptation on").
    """
    from services.training.evaluation.report import markdown, write_report

    began_s = time.monotonic()
    cluster = cluster_of(settings)
    snapshot(settings, run, cluster, lines)
    by_protocol = {
        LEAVE_ONE_OUT: sequence_report,
        RATING: rating_report,
        ADAPTERS: adapters_report,
        PRIVATE: private_report,
    }
    measure = by_protocol.get(settings.protocol, stranger_report)
    report = {
        "data": data_name(settings),
        "domain": settings.domain,
        "preset": settings.preset,
        "command": command_line(EVALUATE, settings),
        **measure(settings, run, cluster, lines, stop),
        "seconds": seconds_since(began_s),
    }
    files = write_report(run.evaluation, report, run.progress)
    return {"run": str(run.directory), **report, "report": files, "markdown": markdown(report)}


def stranger_report(
    settings: TrainSettings, run: Run, cluster: ClusterSettings, lines: Lines, stop: threading.Event
) -> dict[str, Any]:
    """What is said of people whom the models have never seen, and of new items."""
    with session(cluster, run):
        data = prepared_data(settings, run, lines)
        plan = plan_of(settings, run, data)
        fit_jobs([*plan.seeds, *plan.new_items, *plan.blind], plan.data, run, cluster, lines, stop)
        began_s = asking(lines)
        report = costs_of(plan)
        if settings.protocol in (FEW_SHOT, ALL):
            report |= few_shot_reports(settings, run, plan, data, lines)
        if settings.protocol in (ADAPTATION, ALL):
            table = adaptation_table(settings, run, plan, data, lines)
    # what follows asks one model at a time; and nothing runs beside what is timed
    if settings.protocol in (ADAPTATION, ALL):
        report["adaptation"] = adaptation_report(settings, run, plan, data, table)
    if settings.protocol in (NEW_ITEMS, ALL):
        report["new_items"] = new_items_report(settings, run, plan)
    if settings.protocol in (FEEDBACK, ALL):
        report["feedback"] = feedback_report(settings, run, plan, data)
    return {**report, "evaluation_seconds": seconds_since(began_s)}


def sequence_report(
    settings: TrainSettings, run: Run, cluster: ClusterSettings, lines: Lines, stop: threading.Event
) -> dict[str, Any]:
    """Leave one out: the sequence model alone, on people whom it knows."""
    from services.training.evaluation.leave_one_out import leave_one_out, split
    from services.training.evaluation.leave_one_out_report import leave_one_out_dict

    arm = Arm("sequence", NO_ADAPTER)
    with session(cluster, run):
        data = everybody(settings, run, lines)
        parts = split(data)
        if not len(parts.test):
            raise TooFewPeople("people must have at least 3 events to leave two out, got nobody who has")
        lines.log(f"{data.num_events} events; the last of {len(parts.test)} people each are asked for")
        jobs = [replace(job, meta_trained=False) for job in seed_jobs(settings, run, (arm,))]
        fit_jobs(jobs, [parts.train], run, cluster, lines, stop)
        began_s = asking(lines)
        models = [sealed(run, job, arm) for job in jobs]
        result = leave_one_out(data, parts, models, spread=over_ray, progress=telling(lines))
    return {
        "seeds": len(jobs),
        "cost": cost(jobs),
        "leave_one_out": leave_one_out_dict(result),
        "evaluation_seconds": seconds_since(began_s),
    }


def rating_report(
    settings: TrainSettings, run: Run, cluster: ClusterSettings, lines: Lines, stop: threading.Event
) -> dict[str, Any]:
    """Stars of people and items that the models have never seen; all seeds are asked the same."""
    from services.training.evaluation import rating, rating_baselines
    from services.training.evaluation.rating_report import rating_dict

    on, off = Arm("on", settings.adapter, settings.adapter_settings), Arm("off", NO_ADAPTER)
    with session(cluster, run):
        data = prepared_data(settings, run, lines)
        new = rating.new_items(data)
        rest, _ = data.hold_out_items(new)
        jobs = seed_jobs(settings, run, (on, off))
        fit_jobs(jobs, [rest.without_held_out()], run, cluster, lines, stop)
        began_s = asking(lines)
        asked = rating.scenarios(data, new, seed=settings.seed)
        models = [(name, sealed(run, job, arm)) for name, arm in ((OFF, off), (ON, on)) for job in jobs]
        calls = [Call(rating_baselines.answers_of_tuned, (new, settings.seed))]
        calls += [Call(rating.answers_of_model, (model,)) for _, model in models]
        baselines, *answers = over_ray((data, asked), calls, telling(lines))
    arms = {name: [answered] for name, answered in baselines.items()}
    for (name, _), answered in zip(models, answers, strict=True):
        arms.setdefault(name, []).append(answered)
    table = rating.star_table(data, asked, arms)
    people = len(data.users_of(Role.HELD_OUT))
    return {
        "seeds": len(jobs),
        "cost": cost(jobs),
        "rating": rating_dict(table, people=people, items=len(new)),
        "evaluation_seconds": seconds_since(began_s),
    }


def adapters_report(
    settings: TrainSettings, run: Run, cluster: ClusterSettings, lines: Lines, stop: threading.Event
) -> dict[str, Any]:
    """Every adapter that can be served, on the same bodies, by validation people."""
    from services.training.evaluation.adapters_report import adapters_dict, alone
    from services.training.evaluation.few_shot import few_shot
    from services.training.evaluation.protocol import ask, fitting_protocol

    off = Arm("off", NO_ADAPTER)
    with session(cluster, run):
        data = prepared_data(settings, run, lines)
        jobs = seed_jobs(settings, run, (off, *COMPARED))
        fit_jobs(jobs, [data.without_held_out()], run, cluster, lines, stop)
        began_s = asking(lines)
        models: dict[str, list[Any]] = {OFF: [sealed(run, job, off) for job in jobs]}
        for arm in COMPARED:
            models[arm.name] = [sealed(run, job, arm) for job in jobs]
            models[alone(arm.name)] = [replace(model, follows=False) for model in models[arm.name]]
        people = data.users_of(Role.VALIDATION)
        questions = ask(data, people, fitting_protocol(data, people))
        table = few_shot(data, questions, models, task=NEXT_TASK, spread=over_ray, progress=telling(lines))
    costs = {arm.name: cost([replace(job, arms=(arm,)) for job in jobs]) for arm in COMPARED}
    return {
        "seeds": len(jobs),
        "cost": cost(jobs),
        "adapters": adapters_dict(table, costs, NEXT_TASK),
        "evaluation_seconds": seconds_since(began_s),
    }


def private_report(
    settings: TrainSettings, run: Run, cluster: ClusterSettings, lines: Lines, stop: threading.Event
) -> dict[str, Any]:
    """What privacy costs strangers: private trainings by ε, with and without training by gradients, beside
    the ordinary one and popularity."""
    from services.training.evaluation.few_shot import few_shot
    from services.training.evaluation.private import EPSILONS, arm_name, private_popularity, rows_alone
    from services.training.evaluation.private_report import NOT_PRIVATE, private_dict
    from services.training.evaluation.protocol import ask, fitting_protocol
    from shared.artifacts import Registry

    on, delta = Arm("on", settings.adapter, settings.adapter_settings), settings.private_delta
    with session(cluster, run):
        data = known_items(prepared_data(settings, run, lines), data_run(settings, run))
        ordinary = seed_jobs(settings, run, (on,))
        private: dict[str, list[Job]] = {}
        for epsilon in EPSILONS:
            for name, body in ((arm_name(epsilon), True), (rows_alone(epsilon), False)):
                kind = f"{epsilon:g}{'' if body else '-rows'}"
                private[name] = [
                    private_job(
                        replace(
                            job, name=f"{job.name}-{kind}", directory=run.jobs / f"{job.name}-{kind}", data=1
                        ),
                        epsilon,
                        delta,
                        body=body,
                    )
                    for job in ordinary
                ]
        jobs = [job for several in private.values() for job in several]
        trained_on = private_people(data, delta)
        fit_jobs([*ordinary, *jobs], [data.without_held_out(), trained_on], run, cluster, lines, stop)
        for job in jobs:
            forget_secret(job)
        began_s = asking(lines)
        models = {NOT_PRIVATE: [sealed(run, job, on) for job in ordinary]}
        models |= {name: [sealed(run, job, on) for job in several] for name, several in private.items()}
        people = data.users_of(Role.HELD_OUT)
        questions = ask(data, people, fitting_protocol(data, people))
        table = few_shot(data, questions, models, task=NEXT_TASK, spread=over_ray, progress=telling(lines))
    popular = {e: private_popularity(data, questions, e, delta, settings.seeds) for e in EPSILONS}
    own = Registry(run.registry)
    manifests = {e: own.manifest(models[arm_name(e)][0].ref).privacy for e in EPSILONS}
    ledgers = {e: privacy for e, privacy in manifests.items() if privacy is not None}
    found = private_dict(table, popular, ledgers, task=NEXT_TASK, delta=delta, people=trained_on.num_users)
    return {
        "seeds": len(ordinary),
        "cost": cost(ordinary),
        "cost_of_others": {"trained privately": cost(private[arm_name(EPSILONS[-1])])},
        "private": found,
        "evaluation_seconds": seconds_since(began_s),
    }


def asking(lines: Lines) -> float:
    """Trainings are over and arms begin to be measured: now, for `seconds_since`."""
    lines.stage("evaluate")
    return time.monotonic()


def seed_jobs(settings: TrainSettings, run: Run, arms: tuple[Arm, ...]) -> list[Job]:
    """A job a seed, with these arms each."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [job_of(settings, run, f"seed-{seed}", seed, arms) for seed in seeds]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is trained: a job a seed, one without the new items, and those of models that are blind to labels,
    each kind with its own of `data`."""

    on: Arm
    off: Arm
    re_encoding: Arm
    fine_tuned: Arm
    seeds: list[Job]
    new_items: list[Job]
    blind: list[Job]
    data: list[TrainingData]
    rest: TrainingData | None
    held_out_items: HeldOutItems | None


def costs_of(plan: EvaluationPlan) -> dict[str, Any]:
    """What each kind of training took; where new items alone are asked for, theirs is the only one."""
    others = {BLIND: plan.blind, "without the new items": plan.new_items if plan.seeds else []}
    return {
        "seeds": len(plan.seeds),
        "cost": cost(plan.seeds or plan.new_items),
        "cost_of_others": {name: cost(jobs) for name, jobs in others.items() if jobs},
    }


def plan_of(settings: TrainSettings, run: Run, data: TrainingData) -> EvaluationPlan:
    """Only what the protocol needs."""
    from services.training.evaluation.new_items import choose_new_items

    on = Arm("on", settings.adapter, settings.adapter_settings)
    off = Arm("off", NO_ADAPTER)
    re_encoding = Arm("re-encoding", NO_ADAPTER, pretrained=True)
    fine_tuned = Arm("fine-tuned", FINE_TUNE)
    wanted = settings.protocol
    compared = {
        FEW_SHOT: (on, off, re_encoding),
        ADAPTATION: (on, off, fine_tuned),
        ALL: (on, off, re_encoding, fine_tuned),
    }
    arms = compared.get(wanted, (on,))
    jobs = seed_jobs(settings, run, arms)[: {FEEDBACK: 1, NEW_ITEMS: 0}.get(wanted)]
    named = (on, off, re_encoding, fine_tuned)
    read = [data.without_held_out()]
    cold, blind, rest, taken = [], [], None, None
    if wanted in (NEW_ITEMS, ALL):
        rest, taken = data.hold_out_items(choose_new_items(data, settings.new_items))
        cold.append(job_of(settings, run, _NEW_ITEMS_JOB, settings.seed, (on,), data=len(read)))
        read.append(rest.without_held_out())
    if settings.blind:
        blind = [job_of(settings, run, f"blind-{job.name}", job.seed, (off,), data=len(read)) for job in jobs]
        read.append(replace(read[0], blind=True))
    return EvaluationPlan(*named, jobs, cold, blind, read, rest, taken)


def few_shot_reports(
    settings: TrainSettings, run: Run, plan: EvaluationPlan, data: TrainingData, lines: Lines
) -> Mapping[str, Any]:
    """The table of the protocol, which asks for the next items and so ranks by task `next`; and, where lists
    are ranked by something else, the same by that."""
    from services.training.episodes import PROTOCOL_QUERY
    from services.training.evaluation.few_shot import few_shot_by_task
    from services.training.evaluation.few_shot_report import few_shot_dict
    from services.training.evaluation.liked import liked
    from services.training.evaluation.liked_report import liked_dict
    from services.training.evaluation.protocol import Protocol, ask, fitting_protocol
    from services.training.evaluation.reliability import reliability
    from services.training.evaluation.reliability_report import reliability_dict

    people = data.users_of(Role.HELD_OUT)
    last = settings.query_last
    questions = ask(data, people, Protocol.of_last(last) if last else fitting_protocol(data, people))
    models = {
        RE_ENCODING: [sealed(run, job, plan.re_encoding) for job in plan.seeds],
        OFF: [sealed(run, job, plan.off) for job in plan.seeds],
        ON: [ranker(run, job, plan.on, data) for job in plan.seeds],
    }
    tasks = dict.fromkeys((NEXT_TASK, settings.task))
    parts: dict[str, list[Any]] = {}
    if settings.adapts_body:  # has no trends, so the body that it is compared with goes without
        models[OFF] = [replace(model, trends=False) for model in models[OFF]]
    else:
        parts[FAST_WEIGHTS] = [replace(model, follows=False) for model in models[ON]]
        parts[TIMELESS] = [replace(model, trends=False) for model in models[ON]]
    tables = few_shot_by_task(
        data, questions, {**models, **parts}, tasks=tasks, spread=over_ray, progress=telling(lines)
    )
    names = {settings.task: "few_shot_as_ranked", NEXT_TASK: "few_shot"}
    found: dict[str, Any] = {names[task]: few_shot_dict(table, task) for task, table in tables.items()}
    if settings.adapts_body:
        found["whole_body"] = [model.kept.told for model in models[ON]]
    # Probabilities are of the next ten events: of another query they say nothing.
    elif len(questions) and questions.protocol.query_events == PROTOCOL_QUERY:
        told = telling(lines, "reliability")
        calibrated = reliability(data, questions, models[ON], spread=over_ray, progress=told)
        found["reliability"] = reliability_dict(calibrated)
        blind = [sealed(run, job, plan.off) for job in plan.blind]
        arms, told = {**models, BLIND: blind}, telling(lines, "liked")
        found["liked"] = liked_dict(liked(data, questions, arms, spread=over_ray, progress=told))
    return found


def adaptation_table(
    settings: TrainSettings, run: Run, plan: EvaluationPlan, data: TrainingData, lines: Lines
) -> FewShot:
    """Held-out people adapted as served and by fine-tuning the whole body."""
    from services.training.evaluation.adaptation import FINE_TUNED
    from services.training.evaluation.few_shot import few_shot
    from services.training.evaluation.protocol import ask, fitting_protocol

    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people))
    # Trends say nothing of a person: a body that is fine-tuned has none, and the others go without.
    models: dict[str, list[Any]] = {
        name: [replace(sealed(run, job, arm), trends=False) for job in plan.seeds]
        for name, arm in ((OFF, plan.off), (ON, plan.on))
    }
    models[FINE_TUNED] = [ranker(run, job, plan.fine_tuned, data) for job in plan.seeds]
    return few_shot(data, questions, models, task=NEXT_TASK, spread=over_ray, progress=telling(lines))


def adaptation_report(
    settings: TrainSettings, run: Run, plan: EvaluationPlan, data: TrainingData, table: FewShot
) -> Mapping[str, Any]:
    """The table, and the time that adapting takes the first seed's models."""
    from services.training.body_arm import KeptBody
    from services.training.evaluation.adaptation import adaptation_dict
    from services.training.evaluation.protocol import contexts
    from services.training.evaluation.timing import TimedModels, time_adaptation

    first = plan.seeds[0]
    on, off = (sealed(run, first, arm).ref for arm in (plan.on, plan.off))
    timed = TimedModels(run.registry, on, off, first.export(plan.fine_tuned), data)
    times = time_adaptation(timed, {k: contexts(data, table.questions, k) for k in table.shots})
    told = [KeptBody.load(job.export(plan.fine_tuned), data.content).told for job in plan.seeds]
    return adaptation_dict(table, times, adapter=settings.adapter, task=NEXT_TASK, fine_tuning=told)


def ranker(run: Run, job: Job, arm: Arm, data: TrainingData) -> Any:
    """A finished arm as it makes lists: an artifact, or a body that is adapted whole."""
    if not (job.export(arm) / BODY_FILE).is_file():
        return sealed(run, job, arm)
    from services.training.evaluation.whole_body import WholeBody

    return WholeBody.load(job.export(arm), data.item_ids, data.content)


def new_items_report(settings: TrainSettings, run: Run, plan: EvaluationPlan) -> Mapping[str, Any]:
    from services.training.evaluation.new_items import evaluate_new_items
    from services.training.evaluation.report import new_items_dict

    assert plan.rest is not None  # noqa: S101 - planned together
    assert plan.held_out_items is not None  # noqa: S101
    (job,) = plan.new_items
    served = candidate(run, job, plan.on, settings)
    return new_items_dict(evaluate_new_items(plan.rest, plan.held_out_items, served, task=settings.task))


def feedback_report(
    settings: TrainSettings, run: Run, plan: EvaluationPlan, data: TrainingData
) -> Mapping[str, Any]:
    from services.training.evaluation.feedback import FEEDBACK_PEOPLE, REACTIONS, evaluate_feedback
    from services.training.evaluation.protocol import ask, fitting_protocol
    from services.training.evaluation.report import feedback_dict

    people = data.users_of(Role.HELD_OUT)
    questions = ask(data, people, fitting_protocol(data, people), FEEDBACK_PEOPLE)
    served = candidate(run, plan.seeds[0], plan.on, settings)
    return feedback_dict(evaluate_feedback(data, questions, served, REACTIONS, task=settings.task))
