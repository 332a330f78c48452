"""Which adapter that can be served wins on validation people: the figures, and what a report says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from services.training.evaluation.few_shot import FAST_WEIGHTS, OFF, FewShot
from services.training.evaluation.words import interval, ranked_by, seeds

PLOT = "adapters.png"


def alone(adapter: str) -> str:
    """The arm of an adapter's fast weights without what follows a person's events."""
    return f"{adapter}, {FAST_WEIGHTS}"


def adapters_dict(table: FewShot, adapters: Mapping[str, Mapping[str, float]], task: str) -> dict[str, Any]:
    """As plain values, the best first.

    table: with the arms OFF, each adapter's and `alone` of it; adapters: what each cost, see
    `costs.cost`.
    """
    names = sorted(adapters, key=lambda name: -table.mean_ndcg(name))
    found = [_adapter(table, name, names[0], adapters[name]) for name in names]
    return {
        "people": len(table.questions),
        "protocol": table.questions.protocol.as_asked(),
        "task": task,
        "seeds": table.seeds,
        "off": _by_shots(table, OFF),
        "adapters": found,
    }


def _adapter(table: FewShot, name: str, best: str, cost: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": name,
        "ndcg10": _by_shots(table, name),
        "mean_ndcg10": table.mean_ndcg(name),
        "minus_off": asdict(table.difference(name, OFF)),
        "minus_best": asdict(table.difference(name, best)),
        "fast_weights_minus_off": asdict(table.difference(alone(name), OFF)),
        "share_worse_than_off": table.share_worse(name, OFF),
        "seconds": cost.get("adapt_seconds"),
    }


def _by_shots(table: FewShot, arm: str) -> dict[str, float]:
    return {str(k): table.ndcg(arm, k) for k in table.shots}


def adapters_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = ["## Adapters", ""]
    if not result["people"]:
        return [*lines, "No validation person has enough events.", ""]
    shots = [k for k in result["off"] if k != "0"]
    heads = ["adapter", *(f"k = {k}" for k in shots)]
    heads += ["− off", "− the best", "fast weights alone − off", "worse", "seconds"]
    lines += [
        f"{result['people']} validation people, by whom a default is chosen (held-out people are not "
        f"asked), on the same bodies; ranked by {ranked_by(result['task'])}; {seeds(result['seeds'])}. The "
        "weights kept, γ, κ and the adapters' own numbers were chosen by these people too, so all adapters "
        "stand somewhat better here than among strangers. NDCG@10, and paired 95% intervals of its mean over "
        "k ≥ 1:",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---|" * (len(heads) - 1),
        "| adaptation off | " + " | ".join(f"{result['off'][k]:.4f}" for k in shots) + " |  |  |  |  |  |",
    ]
    for adapter in result["adapters"]:
        cells = [f"{adapter['ndcg10'][k]:.4f}" for k in shots]
        cells += [interval(adapter[n]) for n in ("minus_off", "minus_best", "fast_weights_minus_off")]
        cells.append(f"{adapter['share_worse_than_off']:.0%}")
        cells.append(f"{adapter['seconds']:.0f}" if adapter["seconds"] is not None else "")
        lines.append(f"| {adapter['name']} | " + " | ".join(cells) + " |")
    best, *others = result["adapters"]
    level = [f"`{adapter['name']}`" for adapter in others if not adapter["minus_best"]["high"] < 0.0]
    lines += ["", f"Best in the mean over k ≥ 1: `{best['name']}`"]
    lines[-1] += f"; not clearly worse: {', '.join(level)}." if level else "."
    return [*lines, ""]


def plot_adapters(result: Mapping[str, Any], path: Path) -> None:
    """What each adapter adds to the mean of NDCG@10 over k ≥ 1, and its fast weights alone; intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    adapters = result["adapters"][::-1]  # the best on top
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(adapters)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, name, label in (
        (0.12, "minus_off", "adaptation on"),
        (-0.12, "fast_weights_minus_off", FAST_WEIGHTS),
    ):
        means = np.array([adapter[name]["mean"] for adapter in adapters])
        below = means - [adapter[name]["low"] for adapter in adapters]
        above = [adapter[name]["high"] for adapter in adapters] - means
        heights = np.arange(len(adapters)) + shift
        axes.errorbar(means, heights, xerr=[below, above], fmt="o", capsize=3, label=label)
    axes.set_yticks(np.arange(len(adapters)), [adapter["name"] for adapter in adapters])
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel("NDCG@10 − adaptation off, mean over k ≥ 1")
    axes.set_title(f"{result['people']} validation people, {seeds(result['seeds'])}")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=120)
