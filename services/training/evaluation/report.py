"""Reports of an evaluation: JSON for programs, Markdown for people, a plot of the k-shot curve."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from services.training.evaluation.feedback import Moved
from services.training.evaluation.few_shot import KNN, OFF, ON, FewShot
from services.training.evaluation.leave_one_out import LeaveOneOut
from services.training.evaluation.metrics import Float64Array
from services.training.evaluation.new_items import NewItems
from services.training.evaluation.rating_report import PLOT as RATING_PLOT
from services.training.evaluation.rating_report import plot_rating, rating_markdown
from services.training.evaluation.reliability_report import PLOT as RELIABILITY_PLOT
from services.training.evaluation.reliability_report import plot_reliability, reliability_markdown
from services.training.evaluation.words import interval, seeds
from services.training.settings import MIX

REPORT_JSON, REPORT_MARKDOWN, CURVE = "report.json", "report.md", "shots.png"
TRAINING_CURVES = "training.png"


def few_shot_dict(table: FewShot, task: str) -> dict[str, Any]:
    """The table as plain values."""
    found: dict[str, Any] = {
        "people": len(table.questions),
        "protocol": asdict(table.questions.protocol),
        "task": task,
        "seeds": table.seeds,
        "item_knn": {str(k): asdict(knn) for k, knn in table.tuned.items()},
        "rows": [_row(table, k) for k in table.shots],
    }
    if ON in table.arms and OFF in table.arms:
        found["on_minus_off"] = asdict(table.difference(ON, OFF))
    return found


def _row(table: FewShot, shots: int) -> dict[str, Any]:
    arms = {
        name: {"ndcg10": table.ndcg(name, shots), "hr10": table.hr(name, shots)}
        for name, by_shots in table.arms.items()
        if shots in by_shots
    }
    row: dict[str, Any] = {"k": shots, "arms": arms}
    if ON in arms and OFF in arms:
        row["on_minus_off"] = asdict(table.difference(ON, OFF, shots))
        row["share_worse_on_than_off"] = table.share_worse(ON, OFF, shots)
    if KNN in arms:
        row["minus_item_knn"] = {
            name: asdict(table.difference(name, KNN, shots)) for name in arms if name not in (KNN,)
        }
    return row


def leave_one_out_dict(result: LeaveOneOut) -> dict[str, Any]:
    """Both events as plain values."""
    tables = {"validation": result.validation, "test": result.test}
    return {
        "people": result.people,
        "seeds": result.seeds,
        "tuned": dict(result.tuned),
        "arms": {
            name: {
                part: {"hr10": float(table[name].hr.mean()), "ndcg10": float(table[name].ndcg.mean())}
                for part, table in tables.items()
            }
            for name in result.test
        },
        "minus_item_knn": {
            name: asdict(scores.minus(result.test[KNN]))
            for name, scores in result.test.items()
            if name != KNN
        },
    }


def new_items_dict(result: NewItems) -> dict[str, Any]:
    return asdict(result)


def feedback_dict(results: Sequence[Moved]) -> dict[str, Any]:
    return {moved.reaction: asdict(moved) for moved in results}


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report for people."""
    parts = [f"# Evaluation of domain {report['domain']}", ""]
    if "leave_one_out" in report:
        parts += _leave_one_out_markdown(report["leave_one_out"])
    if "few_shot" in report:
        parts += _few_shot_markdown(report["few_shot"])
    if "whole_body" in report:
        parts += _whole_body_markdown(report["whole_body"])
    if "few_shot_as_ranked" in report:
        parts += _few_shot_markdown(report["few_shot_as_ranked"], "The same people, as lists are ranked")
    if report.get("reliability"):
        parts += reliability_markdown(report["reliability"])
    if "rating" in report:
        parts += rating_markdown(report["rating"])
    if "adaptation" in report:
        parts += _adaptation_markdown(report["adaptation"])
    if "new_items" in report:
        parts += _new_items_markdown(report["new_items"])
    if "feedback" in report:
        parts += _feedback_markdown(report["feedback"])
    if report.get("cost"):
        parts += _cost_markdown(report)
    return "\n".join(parts) + "\n"


def write_report(directory: Path, report: Mapping[str, Any], progress: Path | None = None) -> dict[str, str]:
    """Writes all files; returns their paths by kind. progress: what the workers told, for training curves."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / REPORT_JSON).write_text(json.dumps(_finite(report), indent=2, ensure_ascii=False))
    (directory / REPORT_MARKDOWN).write_text(markdown(report), encoding="utf-8")
    files = {"json": str(directory / REPORT_JSON), "markdown": str(directory / REPORT_MARKDOWN)}
    if report.get("few_shot", {}).get("people"):
        plot_shots(report["few_shot"], directory / CURVE)
        files["plot"] = str(directory / CURVE)
    if report.get("reliability"):
        plot_reliability(report["reliability"], directory / RELIABILITY_PLOT)
        files["reliability"] = str(directory / RELIABILITY_PLOT)
    if any(report.get("rating", {}).get("people", {}).values()):
        plot_rating(report["rating"], directory / RATING_PLOT)
        files["rating"] = str(directory / RATING_PLOT)
    if progress is not None and plot_training(progress, directory / TRAINING_CURVES):
        files["training"] = str(directory / TRAINING_CURVES)
    return files


def plot_training(progress: Path, path: Path) -> bool:
    """Loss by step and its running mean, one panel a stage and one line a model; False where nothing was
    trained."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = _losses(progress)
    if not stages:
        return False
    figure = Figure(figsize=(4.2 * len(stages), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, (stage, jobs) in zip(panels, stages.items(), strict=True):
        for job, points in jobs.items():
            steps, losses = map(np.array, zip(*sorted(points.items()), strict=True))
            (line,) = axes.plot(steps, _running_mean(losses), label=job)
            axes.plot(steps, losses, color=line.get_color(), linewidth=0.5, alpha=0.3)
        axes.set_title(stage)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("training loss")
    panels[0].legend()
    figure.savefig(path, dpi=120)
    return True


def _running_mean(values: Float64Array) -> Float64Array:
    """Over a twentieth of them around each; batches differ, by the lengths of their windows for one."""
    width = max(1, len(values) // 20)
    ones = np.ones(width)
    mean: Float64Array = np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
    return mean


def _losses(progress: Path) -> dict[str, dict[str, dict[int, float]]]:
    """By stage and job the training loss at each step told; of a step told twice (a resumed run) the last."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for line in progress.read_text(encoding="utf-8").splitlines() if progress.is_file() else ():
        told = json.loads(line)
        if "loss" in told["metrics"]:
            steps = found.setdefault(told["stage"], {}).setdefault(told["job"], {})
            steps[told["step"]] = told["metrics"]["loss"]
    return found


def plot_shots(few_shot: Mapping[str, Any], path: Path) -> None:
    """NDCG@10 over the number of shots, one line an arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = few_shot["rows"]
    for name in rows[-1]["arms"]:
        points = [(r["k"], r["arms"][name]["ndcg10"]) for r in rows if name in r["arms"]]
        axes.plot([k for k, _ in points], [v for _, v in points], marker="o", label=name)
    axes.set_xlabel("support events k")
    axes.set_ylabel("NDCG@10")
    axes.set_title(f"{few_shot['people']} people never trained on, {seeds(few_shot['seeds'])}")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the lines, not over them
    figure.savefig(path, dpi=120)


def _few_shot_markdown(table: Mapping[str, Any], title: str = "Few shots") -> list[str]:
    protocol = table["protocol"]
    if not table["people"]:
        return [f"## {title}", "", "No held-out person has enough events.", ""]
    names = list(table["rows"][-1]["arms"])
    compared = any("on_minus_off" in row for row in table["rows"])  # a training has one arm
    more = ["on − off", "worse"] if compared else []
    lines = [
        f"## {title}",
        "",
        f"{table['people']} people never trained on with at least "
        f"{protocol['first_events'] + protocol['query_events']} events; {_asked(protocol)}; whole catalogue, "
        f"what they had before masked; ranked by {_ranked_by(table['task'])}; {seeds(table['seeds'])}. "
        "NDCG@10 / HR@10:",
        "",
        "| k | " + " | ".join([*names, *more]) + " |",
        "|---|" + "---|" * (len(names) + len(more)),
    ]
    for row in table["rows"]:
        cells = [_cell(row["arms"].get(name)) for name in names]
        if compared:
            cells.append(interval(row["on_minus_off"]) if "on_minus_off" in row else "")
            worse = "share_worse_on_than_off"
            cells.append(f"{row[worse]:.0%}" if worse in row else "")
        lines.append(f"| {row['k']} | " + " | ".join(cells) + " |")
    lines += ["", "Difference to item-kNN (NDCG@10, paired 95% intervals):", ""]
    lines += ["| k | " + " | ".join(n for n in names if n != KNN) + " |", "|---|" + "---|" * (len(names) - 1)]
    for row in table["rows"]:
        if "minus_item_knn" in row:
            cells = [interval(row["minus_item_knn"][n]) for n in names if n != KNN]
            lines.append(f"| {row['k']} | " + " | ".join(cells) + " |")
    if "on_minus_off" in table:
        lines += ["", f"Adaptation on − off, mean over k ≥ 1: {interval(table['on_minus_off'])}"]
    return [*lines, ""]


def _leave_one_out_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Leave one out",
        "",
        f"The last event of {result['people']} people, from all before it; whole catalogue, items of the "
        f"history masked; {seeds(result['seeds'])}. Settings were chosen on the event before the last.",
        "",
        "| arm | HR@10 | NDCG@10 | (validation) | NDCG@10 − item-kNN |",
        "|---|---|---|---|---|",
    ]
    for name, parts in result["arms"].items():
        test, validation = parts["test"], parts["validation"]
        compared = result["minus_item_knn"].get(name)
        lines.append(
            f"| {name} | {test['hr10']:.4f} | {test['ndcg10']:.4f} | "
            f"{validation['hr10']:.4f} / {validation['ndcg10']:.4f} | "
            f"{interval(compared) if compared else ''} |"
        )
    chosen = ", ".join(f"{name}: {setting}" for name, setting in result["tuned"].items() if setting)
    return [*lines, "", f"Chosen on validation: {chosen}.", ""]


def _cost_markdown(report: Mapping[str, Any]) -> list[str]:
    """Time and memory, the mean over seeds."""
    cost = dict(report["cost"])
    memory = cost.pop("peak_memory_mb", None)
    parts = [f"{name.removesuffix('_seconds')} {seconds:.0f} s" for name, seconds in cost.items()]
    parts += [f"at most {memory:.0f} MB in a worker"] if memory else []
    return [
        f"A training with preset `{report['preset']}`: {', '.join(parts)}; "
        f"the whole evaluation {report['seconds']:.0f} s.",
        "",
    ]


def _whole_body_markdown(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    chosen = dict.fromkeys(", ".join(f"{name} {value}" for name, value in s["chosen"].items()) for s in seeds)
    lines = [f"Adaptation on: the whole body by `{seeds[0]['adapter']}` ({'; '.join(chosen)}); never served."]
    return [*lines, ""]


def _adaptation_markdown(result: Mapping[str, Any]) -> list[str]:
    if not result["people"]:
        return ["## Adapting as served, and fine-tuning", "", "No held-out person has enough events.", ""]
    settings = [seed["chosen"] for seed in result["fine_tuning"]]
    chosen = ", ".join(dict.fromkeys(f"{s['steps']} × {s['rate']:g}" for s in settings))
    tried = len(result["fine_tuning"][0]["tried"])
    lines = [
        "## Adapting as served, and fine-tuning",
        "",
        f"{result['people']} people never trained on, the same bodies and support events; ranked by "
        f"{_ranked_by(result['task'])}; {seeds(result['seeds'])}. Served: adapter `{result['adapter']}` of "
        f"the artifact. Fine-tuned: the whole body, gradient steps × rate {chosen}, the best of {tried} on "
        "validation people. NDCG@10, paired 95% intervals:",
        "",
        "| k | off | served | fine-tuned | served − off | fine-tuned − off | served − fine-tuned |",
        "|---|---|---|---|---|---|---|",
    ]
    pairs = ("on_minus_off", "fine_tuned_minus_off", "on_minus_fine_tuned")
    for row in result["rows"]:
        cells = [f"{value:.4f}" for value in row["ndcg10"].values()] + [interval(row[p]) for p in pairs]
        lines.append(f"| {row['k']} | " + " | ".join(cells) + " |")
    cells = ["", "", "", *(interval(result[pair]) for pair in pairs)]
    lines.append("| mean over k ≥ 1 | " + " | ".join(cells) + " |")
    return [*lines, "", *_times_markdown(result["rows"])]


def _times_markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "One person in one thread, median milliseconds. Served: the whole `encode_adapt`, and what it takes "
        "more than one without an adapter:",
        "",
        "| k | people | served | of it adapting | fine-tuned |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if "time" in row:
            t = row["time"]
            figures = (t["encode_adapt_ms"], t["adapt_ms"], t["finetune_ms"])
            lines.append(
                f"| {row['k']} | {t['people']} | " + " | ".join(f"{ms:.2f}" for ms in figures) + " |"
            )
    return [*lines, ""]


def _new_items_markdown(result: Mapping[str, Any]) -> list[str]:
    return [
        "## New items, added by text alone",
        "",
        f"{result['items']} items held out of training; {result['people']} people never trained on. "
        "Median rank percentile of a new item in a person's list (0% = first):",
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


def _asked(protocol: Mapping[str, Any]) -> str:
    if protocol["at_end"]:
        return f"query = their last {protocol['query_events']} events, support = the last k before"
    first, query = protocol["first_events"], protocol["query_events"]
    return f"support = the last k of their first {first}, query = the next {query}"


def _ranked_by(task: str) -> str:
    return "the mix of tasks that is served" if task == MIX else f"task `{task}`"


def _cell(arm: Mapping[str, float] | None) -> str:
    return f"{arm['ndcg10']:.4f} / {arm['hr10']:.3f}" if arm else ""


def _finite(value: Any) -> Any:
    """NaN and infinities → null: JSON has no words for them."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
