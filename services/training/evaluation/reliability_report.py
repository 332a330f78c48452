"""The report of reliability: plain values, Markdown, and the plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.training.episodes import PROTOCOL_QUERY
from services.training.evaluation.few_shot import OFF
from services.training.evaluation.reliability import Reliability, pooled
from shared.modeling.config import RATING_TASK

PLOT = "reliability.png"
_Z = 1.96
# Bins of fewer values say little: they are in the figures but not in the plot.
_FEWEST_SHOWN = 20


def reliability_dict(found: Mapping[str, Mapping[int, Reliability]]) -> dict[str, Any]:
    """By task: over all numbers of shots, with the bins, and by number of shots."""
    return {
        task: {
            **_figures(pooled(by_shots)),
            "bins": [
                {"foretold": said, "happened": came, "values": count}
                for said, came, count in pooled(by_shots).points
            ],
            "by_shots": {str(shots): _figures(seen) for shots, seen in by_shots.items()},
        }
        for task, by_shots in found.items()
    }


def _figures(seen: Reliability) -> dict[str, float]:
    return {
        "values": seen.values,
        "mean_squared_error": seen.mean_squared_error,
        "of_the_mean": seen.of_the_mean,
        "calibration_error": seen.calibration_error,
        "foretold": float(seen.foretold.sum()),
        "happened": float(seen.happened.sum()),
    }


def reliability_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Reliability",
        "",
        "What was foretold against what came, over the same people and all numbers of shots. Choices: "
        "probabilities of all items not had; the Brier score beside that of one who always says the mean; "
        "the calibration error is the mean distance of a bin's mean from what came in it. Ratings: stars of "
        "those among the next events; foretold and happened are means there, and counts for choices.",
        "",
        "| task | values | foretold | happened | squared error | of the mean | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, figures in result.items():
        names = ("mean_squared_error", "of_the_mean", "calibration_error")
        share = figures["values"] if task == RATING_TASK else 1.0
        places = 2 if task == RATING_TASK else 0
        cells = [f"{figures['values']:.0f}"]
        cells += [f"{figures[name] / share:.{places}f}" for name in ("foretold", "happened")]
        cells += [f"{figures[name]:.5f}" for name in names]
        lines.append(f"| `{task}` | " + " | ".join(cells) + " |")
    if RATING_TASK not in result:
        lines += ["", f"Nothing is said of `{RATING_TASK}`: nobody rated, or too few did to foretell stars."]
    return [*lines, "", "By number of shots (squared error / calibration error):", "", *_by_shots(result), ""]


def no_reliability_markdown(few_shot: Mapping[str, Any], *, whole_body: bool) -> list[str]:
    """Why an evaluation of few shots has neither reliability nor likes; nothing of a training, which is
    judged by one arm and measures neither."""
    if not few_shot["people"] or OFF not in few_shot["rows"][0]["arms"]:
        return []
    asked = few_shot["protocol"]["query_events"]
    if whole_body:
        why = "a whole body that is adapted gives no values that are served"
    elif asked != PROTOCOL_QUERY:
        why = (
            f"values are of a person's next {PROTOCOL_QUERY} events, and of these people the "
            f"{'last' if few_shot['protocol']['at_end'] else 'next'} {asked} are asked for"
        )
    else:
        why = "nothing came that was foretold"
    return [f"No reliability and no next liked items here: {why}.", ""]


def _by_shots(result: Mapping[str, Any]) -> list[str]:
    shots = list(next(iter(result.values()))["by_shots"])
    lines = ["| task | " + " | ".join(f"k = {k}" for k in shots) + " |", "|---|" + "---|" * len(shots)]
    for task, figures in result.items():
        cells = [
            f"{at['mean_squared_error']:.5f} / {at['calibration_error']:.5f}"
            for at in figures["by_shots"].values()
        ]
        lines.append(f"| `{task}` | " + " | ".join(cells) + " |")
    return lines


def plot_reliability(result: Mapping[str, Any], path: Path) -> None:
    """One panel a task: what came against what was foretold, on the diagonal where values are what they say.

    Probabilities on logarithmic axes with 95% intervals; below, the number of values of each bin.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(result), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(result), squeeze=False, height_ratios=(3, 1), sharex="col")
    for (axes, below), (task, figures) in zip(panels.T, result.items(), strict=True):
        bins = [b for b in figures["bins"] if b["values"] >= _FEWEST_SHOWN]
        said, came = [b["foretold"] for b in bins], [b["happened"] for b in bins]
        ends = [min(said, default=0.0), max(said, default=1.0)]
        axes.plot(ends, ends, color="grey", linestyle="--", linewidth=1, label="as foretold")
        if task == RATING_TASK:
            axes.plot(said, came, marker="o", label="all k")
        else:
            low, high = zip(*(_wilson(b) for b in bins), strict=True) if bins else ((), ())
            errors = [
                [c - a for c, a in zip(came, low, strict=True)],
                [b - c for c, b in zip(came, high, strict=True)],
            ]
            axes.errorbar(said, came, yerr=errors, marker="o", capsize=2, label="all k")
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set_title(f"`{task}`: calibration error {figures['calibration_error']:.5f}")
        axes.grid(alpha=0.3)
        axes.legend()
        below.step(said, [b["values"] for b in bins], where="mid")
        below.set_yscale("log")
        below.grid(alpha=0.3)
        below.set_xlabel("stars foretold" if task == RATING_TASK else "probability foretold")
    panels[0][0].set_ylabel("what came")
    panels[1][0].set_ylabel("values")
    figure.savefig(path, dpi=120)


def _wilson(of_bin: Mapping[str, float]) -> tuple[float, float]:
    """95% interval of a share (Wilson, 1927), around the share itself."""
    n, p = of_bin["values"], of_bin["happened"]
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return min(centre - half, p), max(centre + half, p)
