"""The report of foretold stars: plain values, Markdown, a plot over the number of ratings given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from services.training.evaluation.few_shot import OFF, ON
from services.training.evaluation.plots import style
from services.training.evaluation.rating import FEWEST, MOST, NEW_SINCE, QUERY, SCENARIOS, StarTable
from services.training.evaluation.rating_baselines import FACTORS
from services.training.evaluation.words import interval, seeds

PLOT = "rating.png"
# Numbers of ratings given, as people are grouped in the plot: from each up to the next.
_GROUPS = (FEWEST - QUERY, 10, 20, 40, MOST - QUERY + 1)


def rating_dict(table: StarTable, *, people: int, items: int) -> dict[str, Any]:
    """people, items: how many are new."""
    return {
        "new_people": people,
        "new_items": items,
        "seeds": table.seeds,
        "people": {scenario: len(given) for scenario, given in table.supports.items()},
        "arms": {
            name: {
                scenario: {
                    "mae": scores.mae,
                    "rmse": scores.rmse,
                    "mae_of_whole_stars": scores.mae_of_whole_stars,
                }
                for scenario, scores in by_scenario.items()
            }
            for name, by_scenario in table.arms.items()
        },
        "on_minus_factors": {
            scenario: asdict(table.difference(ON, FACTORS, scenario)) for scenario in table.supports
        },
        "share_worse": {
            other: {scenario: table.share_worse(ON, other, scenario) for scenario in table.supports}
            for other in (OFF, FACTORS)
        },
        "by_ratings_given": {scenario: _by_given(table, scenario) for scenario in table.supports},
    }


def _by_given(table: StarTable, scenario: str) -> list[dict[str, Any]]:
    """MAE of each arm by number of ratings given; groups that nobody is in are left out."""
    given = table.supports[scenario]
    groups = []
    for low, high in pairwise(_GROUPS):
        here = (given >= low) & (given < high)
        if here.any():
            maes = {name: float(arm[scenario].absolute[here].mean()) for name, arm in table.arms.items()}
            mean = float(given[here].mean())
            groups.append({"from": low, "to": high - 1, "mean": mean, "people": int(here.sum()), "mae": maes})
    return groups


def rating_markdown(result: Mapping[str, Any]) -> list[str]:
    people = result["people"]
    shown = [scenario for scenario in SCENARIOS if people[scenario]]
    if not shown:
        return ["## Stars", "", f"Nobody has {FEWEST} to {MOST} ratings of one kind.", ""]
    lines = [
        "## Stars",
        "",
        f"MeLU's protocol: {result['new_people']} people and {result['new_items']} items (released from "
        f"{NEW_SINCE} on) are new and not trained on; of people with {FEWEST} to {MOST} ratings of a kind "
        f"{QUERY} are asked for, drawn at random, from the others alone; {seeds(result['seeds'])}. "
        "MAE / RMSE in stars:",
        "",
        "| arm | " + " | ".join(f"{scenario} ({people[scenario]} people)" for scenario in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    for name, by_scenario in result["arms"].items():
        cells = [f"{by_scenario[s]['mae']:.4f} / {by_scenario[s]['rmse']:.4f}" for s in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    compared = [interval(result["on_minus_factors"][s]) for s in shown]
    lines.append(f"| {ON} − {FACTORS}, MAE | " + " | ".join(compared) + " |")
    for other, shares in result["share_worse"].items():
        cells = [f"{shares[s]:.0%}" for s in shown]
        lines.append(f"| people with a larger MAE: {ON} than {other} | " + " | ".join(cells) + " |")
    whole = [f"{result['arms'][ON][s]['mae_of_whole_stars']:.4f}" for s in shown]
    lines += ["", f"With stars rounded to whole ones, MAE of {ON}: {', '.join(whole)}.", ""]
    return lines


def plot_rating(result: Mapping[str, Any], path: Path) -> None:
    """MAE over the number of ratings given, one panel a scenario and one line an arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [scenario for scenario in SCENARIOS if result["by_ratings_given"][scenario]]
    figure = Figure(figsize=(4.2 * len(shown) + 2.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, scenario in zip(panels, shown, strict=True):
        groups = result["by_ratings_given"][scenario]
        for place, name in enumerate(result["arms"]):
            points = [(group["mean"], group["mae"][name]) for group in groups]
            axes.plot(*np.array(points).T, label=name, **style(place))
        axes.set_title(f"{scenario} ({result['people'][scenario]} people)")
        axes.set_xlabel("ratings given")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean absolute error, stars")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=4.0)
    figure.savefig(path, dpi=120)
