"""Reports of an evaluation: JSON for programs, Markdown and plots for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.training.cost import PEAK_MEMORY_MB
from services.training.evaluation.adaptation_report import PLOT as ADAPTATION_PLOT
from services.training.evaluation.adaptation_report import adaptation_markdown, plot_adaptation
from services.training.evaluation.adapters_report import PLOT as ADAPTERS_PLOT
from services.training.evaluation.adapters_report import adapters_markdown, plot_adapters
from services.training.evaluation.feedback import Moved
from services.training.evaluation.few_shot_report import few_shot_markdown
from services.training.evaluation.leave_one_out_report import PLOT as LEAVE_ONE_OUT_PLOT
from services.training.evaluation.leave_one_out_report import leave_one_out_markdown, plot_leave_one_out
from services.training.evaluation.liked_report import liked_markdown
from services.training.evaluation.new_items import NewItems
from services.training.evaluation.plots import plot_shots, plot_training
from services.training.evaluation.private_report import PLOT as PRIVATE_PLOT
from services.training.evaluation.private_report import ledger_markdown, plot_private, private_markdown
from services.training.evaluation.rating_report import PLOT as RATING_PLOT
from services.training.evaluation.rating_report import plot_rating, rating_markdown
from services.training.evaluation.reliability_report import PLOT as RELIABILITY_PLOT
from services.training.evaluation.reliability_report import (
    no_reliability_markdown,
    plot_reliability,
    reliability_markdown,
)
from services.training.evaluation.words import glossary, interval, seeds

REPORT_JSON, REPORT_MARKDOWN = "report.json", "report.md"
TRAINING_CURVES = "training.png"
# Part of the report, what its plot is called in the result, file, and what draws it.
_PLOTS: tuple[tuple[str, str, str, Callable[[Any, Path], None]], ...] = (
    ("leave_one_out", "arms", LEAVE_ONE_OUT_PLOT, plot_leave_one_out),
    ("few_shot", "plot", "shots.png", plot_shots),
    ("reliability", "reliability", RELIABILITY_PLOT, plot_reliability),
    ("rating", "rating", RATING_PLOT, plot_rating),
    ("adaptation", "adaptation", ADAPTATION_PLOT, plot_adaptation),
    ("adapters", "adapters", ADAPTERS_PLOT, plot_adapters),
    ("private", "private", PRIVATE_PLOT, plot_private),
)


def new_items_dict(result: NewItems) -> dict[str, Any]:
    return asdict(result)


def feedback_dict(results: Sequence[Moved]) -> dict[str, Any]:
    return {moved.reaction: asdict(moved) for moved in results}


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report for people, without its plots."""
    data = f" on {report['data']}" if report.get("data") else ""
    parts = [f"# Evaluation{data}, domain {report['domain']}", ""]
    if "command" in report:
        parts += [f"By `{report['command']}`.", ""]
    if "leave_one_out" in report:
        parts += leave_one_out_markdown(report["leave_one_out"])
    if "few_shot" in report:
        parts += few_shot_markdown(report["few_shot"])
    if "whole_body" in report:
        parts += _whole_body_markdown(report["whole_body"])
    if "few_shot_as_ranked" in report:
        parts += few_shot_markdown(report["few_shot_as_ranked"], "The same people, as lists are ranked")
    if "liked" in report:
        parts += liked_markdown(report["liked"])
    if report.get("reliability"):
        parts += reliability_markdown(report["reliability"])
    elif "few_shot" in report:
        parts += no_reliability_markdown(report["few_shot"], whole_body="whole_body" in report)
    if "rating" in report:
        parts += rating_markdown(report["rating"])
    if "adaptation" in report:
        parts += adaptation_markdown(report["adaptation"])
    if "adapters" in report:
        parts += adapters_markdown(report["adapters"])
    if "private" in report:
        parts += private_markdown(report["private"])
    if "privacy" in report:
        parts += ledger_markdown(report["privacy"])
    if "new_items" in report:
        parts += _new_items_markdown(report["new_items"])
    if "feedback" in report:
        parts += _feedback_markdown(report["feedback"])
    if report.get("cost"):
        parts += _cost_markdown(report)
    return "\n".join([*parts, *glossary("\n".join(parts))])


def write_report(directory: Path, report: Mapping[str, Any], progress: Path | None = None) -> dict[str, str]:
    """Writes all files; returns their paths by kind. progress: what the workers told, for training curves."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / REPORT_JSON).write_text(json.dumps(_finite(report), indent=2, ensure_ascii=False))
    files = {"json": str(directory / REPORT_JSON), "markdown": str(directory / REPORT_MARKDOWN)}
    for part, kind, name, plot in _PLOTS:
        if _has_people(report.get(part)):
            plot(report[part], directory / name)
            files[kind] = str(directory / name)
    if progress is not None and plot_training(progress, directory / TRAINING_CURVES):
        files["training"] = str(directory / TRAINING_CURVES)
    plots = [f"![{kind}]({Path(path).name})" for kind, path in files.items() if path.endswith(".png")]
    text = markdown(report) + "\n".join(["", *plots, ""] if plots else [])
    (directory / REPORT_MARKDOWN).write_text(text, encoding="utf-8")
    return files


def _has_people(part: Mapping[str, Any] | None) -> bool:
    """Whether there is anything to draw: somebody was asked."""
    people = (part or {}).get("people", part)
    return any(people.values()) if isinstance(people, Mapping) else bool(people)


def _cost_markdown(report: Mapping[str, Any]) -> list[str]:
    """Time and memory of trainings, then of the evaluation; in that of earlier versions the two are one."""
    adapter = "adapters" if "adapters" in report else "adapter"
    said = [f"A training with preset `{report['preset']}`{_mean_over(report['seeds'])}: "]
    said[0] += f"{_cost(report['cost'], adapter)}."
    for kind, cost in report.get("cost_of_others", {}).items():
        said.append(f"One of a model {kind}: {_cost(cost, adapter)}.")
    if "evaluation_seconds" in report:
        said.append(
            "The evaluation itself, from when its arms began to be measured: "
            f"{report['evaluation_seconds']:.0f} s."
        )
    else:
        said.append(
            "From the last start of the run on, with what of its trainings was still to do: "
            f"{report['seconds']:.0f} s."
        )
    return [" ".join(said), ""]


def _mean_over(count: int) -> str:
    return f", the mean over {seeds(count)}" if count > 1 else ""


def _cost(cost: Mapping[str, float], adapter: str) -> str:
    """By stage, without those that there was nothing to do in."""
    names = {
        "pretrain": "pre-training",
        "meta-train": "meta-training",
        "adapt": adapter,
        "private": "private training",
    }
    stages = {
        name.removesuffix("_seconds"): seconds for name, seconds in cost.items() if name != PEAK_MEMORY_MB
    }
    parts = [f"{names.get(name, name)} {seconds:.0f} s" for name, seconds in stages.items() if seconds >= 0.5]
    parts += [f"at most {cost[PEAK_MEMORY_MB]:.0f} MB in a worker"] if PEAK_MEMORY_MB in cost else []
    return ", ".join(parts)


def _whole_body_markdown(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    chosen = dict.fromkeys(
        ", ".join(f"{name} {value}" for name, value in s["chosen"].items()) for s in bodies
    )
    lines = [
        f"Adaptation on: the whole body by `{bodies[0]['adapter']}` ({'; '.join(chosen)}); never served."
    ]
    return [*lines, ""]


def _new_items_markdown(result: Mapping[str, Any]) -> list[str]:
    return [
        "## New items, added by text alone",
        "",
        f"{result['items']} items held out of training; {result['people']} people never trained on. "
        "Median rank percentile of a new item in a person's list (0% = first, 50% = as by chance):",
        "",
        "| for | median percentile |",
        "|---|---|",
        f"| people whose later likes it resembles (nearest tenth) | {result['fitting']:.1%} |",
        f"| everybody else | {result['others']:.1%} |",
        f"| people who later liked this very item ({result['liked_pairs']} pairs) | {result['liked']:.1%} |",
        f"| people who did not | {result['not_liked']:.1%} |",
        "",
    ]


def _feedback_markdown(results: Mapping[str, Any]) -> list[str]:
    lines = [
        "## One event of feedback",
        "",
        "Mean rank of the 20 nearest items of the item acted on, before and after:",
        "",
        "| event | people | before | after | change | as meant |",
        "|---|---|---|---|---|---|",
    ]
    for reaction, moved in results.items():
        lines.append(
            f"| {reaction} | {moved['people']} | {moved['before']:.1f} | {moved['after']:.1f} | "
            f"{interval(moved['change'], digits=1)} | {moved['share_as_meant']:.0%} |"
        )
    return [*lines, ""]


def _finite(value: Any) -> Any:
    """NaN and infinities → null: JSON has no words for them."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
