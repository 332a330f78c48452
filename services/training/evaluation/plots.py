"""Plots of reports: k-shot curves, training curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from services.training.evaluation.metrics import Float64Array
from services.training.evaluation.words import seeds

# By the place of an arm: lines that lie on each other are told apart by their dashes and hollow marks.
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (10, 3)), (0, (1, 2)))
# What `jobs` and `worker` call the stages, and reports.
_STAGES = {
    "pretrain": "pre-training",
    "meta-train": "meta-training",
    "adapt-on": "adapter",
    "private": "private training",
}
_SMOOTHED = 20


def style(place: int) -> dict[str, Any]:
    """How the line of the arm at this place is drawn; no two of thirty alike."""
    return {
        "color": f"C{place}",
        "marker": _MARKS[place % len(_MARKS)],
        "linestyle": _DASHES[place % len(_DASHES)],
        "markerfacecolor": "none",
        "markersize": 7,
    }


def stage_title(stage: str) -> str:
    """In the words of reports: adapters are trained after meta-training, one an arm."""
    return _STAGES.get(stage, stage.replace("adapt-", "adapter "))


def plot_training(progress: Path, path: Path) -> bool:
    """Loss by step and its running mean, one panel a stage and one line a model; False where nothing was
    trained."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    stages = _losses(progress)
    if not stages:
        return False
    figure = Figure(figsize=(4.2 * len(stages), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    # A job has one colour throughout, also where a resumed run tells of some of its stages alone.
    names = sorted({job for jobs in stages.values() for job in jobs})
    colours = {job: f"C{number}" for number, job in enumerate(names)}
    for axes, (stage, jobs) in zip(panels, stages.items(), strict=True):
        for job in sorted(jobs):
            steps, losses = map(np.array, zip(*sorted(jobs[job].items()), strict=True))
            axes.plot(steps, _running_mean(losses), color=colours[job], label=job)
            axes.plot(steps, losses, color=colours[job], linewidth=0.5, alpha=0.3)
        axes.set_title(stage_title(stage))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("training loss")
    legend = max(panels, key=lambda axes: len(axes.lines))
    thin = Line2D([], [], color="grey", linewidth=0.5, alpha=0.6, label="pale: single batches")
    thick = Line2D([], [], color="grey", label=f"bold: running mean over a {_SMOOTHED}th")
    legend.legend(handles=[*legend.get_legend_handles_labels()[0], thick, thin], fontsize="small")
    figure.savefig(path, dpi=120)
    return True


def _running_mean(values: Float64Array) -> Float64Array:
    """Over a twentieth of them around each; batches differ, by the lengths of their windows for one."""
    width = max(1, len(values) // _SMOOTHED)
    ones = np.ones(width)
    mean: Float64Array = np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
    return mean


def _losses(progress: Path) -> dict[str, dict[str, dict[int, float]]]:
    """By stage and job the training loss at each step told; of a step told twice (a resumed run) the last."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for line in progress.read_text(encoding="utf-8").splitlines() if progress.is_file() else ():
        told = json.loads(line)
        if "loss" in told.get("metrics", {}):
            steps = found.setdefault(told["stage"], {}).setdefault(told["job"], {})
            steps[told["step"]] = told["metrics"]["loss"]
    return found


def plot_shots(few_shot: Mapping[str, Any], path: Path) -> None:
    """NDCG@10 over the number of shots, one line an arm."""
    arms = {
        name: {row["k"]: row["arms"][name]["ndcg10"] for row in few_shot["rows"] if name in row["arms"]}
        for name in few_shot["rows"][-1]["arms"]
    }
    title = f"{few_shot['people']} people never trained on, {seeds(few_shot['seeds'])}"
    plot_by_shots(arms, title, path)


def plot_by_shots(arms: Mapping[str, Mapping[int, float]], title: str, path: Path) -> None:
    """arms: name → NDCG@10 by number of shots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (name, by_shots) in enumerate(arms.items()):
        axes.plot(list(by_shots), list(by_shots.values()), label=name, **style(place))
    axes.set_xticks(sorted({k for by_shots in arms.values() for k in by_shots}))
    axes.set_xlabel("support events k")
    axes.set_ylabel("NDCG@10")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=4.0
    )  # beside the lines, not over them
    figure.savefig(path, dpi=120)
