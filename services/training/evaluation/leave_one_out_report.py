"""What a report says of leaving one out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.training.evaluation.few_shot import KNN
from services.training.evaluation.leave_one_out import LeaveOneOut
from services.training.evaluation.words import interval, seeds

PLOT = "leave-one-out.png"


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
        "share_worse_than_item_knn": {
            name: scores.share_worse(result.test[KNN]) for name, scores in result.test.items() if name != KNN
        },
    }


def leave_one_out_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Leave one out",
        "",
        f"The last event of {result['people']} people, from all before it; whole catalogue, items of the "
        f"history masked; {seeds(result['seeds'])}. Settings were chosen on the event before the last.",
        "",
        "| arm | HR@10 | NDCG@10 | (validation) | NDCG@10 − item-kNN | people with a lower one |",
        "|---|---|---|---|---|---|",
    ]
    for name, parts in result["arms"].items():
        test, validation = parts["test"], parts["validation"]
        compared = result["minus_item_knn"].get(name)
        worse = result["share_worse_than_item_knn"].get(name)
        cells = [name, f"{test['hr10']:.4f}", f"{test['ndcg10']:.4f}"]
        cells.append(f"{validation['hr10']:.4f} / {validation['ndcg10']:.4f}")
        cells += [interval(compared), f"{worse:.0%}"] if compared else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    chosen = ", ".join(f"{name}: {setting}" for name, setting in result["tuned"].items() if setting)
    return [*lines, "", f"Chosen on validation: {chosen}.", ""]


def plot_leave_one_out(result: Mapping[str, Any], path: Path) -> None:
    """HR@10 and NDCG@10 of each arm, of the last event and of the one before."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(result["arms"])[::-1]  # barh begins at the bottom
    figure = Figure(figsize=(10, 1.2 + 0.5 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric, title in zip(panels, ("hr10", "ndcg10"), ("HR@10", "NDCG@10"), strict=True):
        for shift, part in ((0.2, "test"), (-0.2, "validation")):
            values = [result["arms"][name][part][metric] for name in names]
            axes.barh([place + shift for place in range(len(names))], values, height=0.4, label=part)
        axes.set_title(title)
        axes.grid(alpha=0.3, axis="x")
    panels[0].set_yticks(range(len(names)), names)
    panels[1].legend()
    figure.savefig(path, dpi=120)
