"""What a report says of private trainings: the cost of privacy in quality, and a version's ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.training.evaluation.few_shot import POPULARITY, ArmScores, FewShot
from services.training.evaluation.plots import style
from services.training.evaluation.private import EPSILONS, arm_name, popularity_told, rows_alone
from services.training.evaluation.words import interval, ranked_by, seeds
from shared.artifacts import PrivacyInfo

PLOT = "private.png"
# The ordinary training of the preset.
NOT_PRIVATE = "not private"


def private_dict(
    table: FewShot,
    popular: Mapping[float, ArmScores],
    ledgers: Mapping[float, PrivacyInfo],
    *,
    task: str,
    delta: float,
    people: int,
) -> dict[str, Any]:
    """As plain values. popular: by ε; ledgers: of the first seed's versions, by ε; people: trained on."""
    models = [name for e in EPSILONS for name in (arm_name(e), rows_alone(e))]
    arms = {
        name: {str(k): table.ndcg(name, k) for k in table.shots}
        for name in (POPULARITY, NOT_PRIVATE, *models)
    }
    for epsilon, scores in popular.items():
        arms[popularity_told(epsilon)] = {str(k): float(scores.ndcg.mean()) for k in table.shots}
    return {
        "people": len(table.questions),
        "trained_on": people,
        "protocol": table.questions.protocol.as_asked(),
        "task": task,
        "seeds": table.seeds,
        "delta": delta,
        "ndcg10": arms,
        "minus_popularity": {name: asdict(table.difference(name, POPULARITY)) for name in models},
        "by_gradients": {arm_name(e): asdict(table.difference(arm_name(e), rows_alone(e))) for e in EPSILONS},
        "ledgers": {arm_name(e): asdict(ledger) for e, ledger in ledgers.items()},
    }


def private_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = ["## Differential privacy", ""]
    if not result["people"]:
        return [*lines, "No held-out person has enough events.", ""]
    shots = [str(k) for k in result["protocol"]["numbers"]]
    first, query = result["protocol"]["first_events"], result["protocol"]["query_events"]
    lines += [
        f"{result['trained_on']:,} people are trained on, each promised (ε, δ = {result['delta']:g}): the "
        f"version as a whole, towards adding or removing one of them. {result['people']} others are asked: "
        f"support = the last k of their first {first} events, query = the next {query}; whole catalogue, "
        f"what they had before masked; ranked by {ranked_by(result['task'])}; {seeds(result['seeds'])}. "
        "`ε = ∞` is the private training without noise. NDCG@10:",
        "",
        "| arm | " + " | ".join(f"k = {k}" for k in shots) + " | − popularity, mean over k ≥ 1 |",
        "|---|" + "---|" * (len(shots) + 1),
    ]
    for name, by_shots in result["ndcg10"].items():
        more = interval(result["minus_popularity"][name]) if name in result["minus_popularity"] else ""
        lines.append(f"| {name} | " + " | ".join(f"{by_shots[k]:.4f}" for k in shots) + f" | {more} |")
    told = "; ".join(f"{name}: {interval(value)}" for name, value in result["by_gradients"].items())
    lines += ["", f"What training by noisy gradients adds to rows that spend all on themselves: {told}."]
    for name, ledger in result["ledgers"].items():
        lines += ["", f"Spent at {name}:", "", *ledger_table(ledger)]
    return [*lines, ""]


def ledger_table(ledger: Mapping[str, Any]) -> list[str]:
    """A row a mechanism."""
    numbers = ("sensitivity", "noise_multiplier", "sampling", "steps")
    return [
        "| mechanism | sensitivity | noise multiplier | sampling | steps |",
        "|---|---|---|---|---|",
        *(
            f"| {m['name']} | " + " | ".join(f"{m[number]:.4g}" for number in numbers) + " |"
            for m in ledger["mechanisms"]
        ),
        "",
        f"In all ε = {ledger['epsilon']:.3f} at δ = {ledger['delta']:g} ({ledger['accountant']}).",
    ]


def ledger_markdown(ledger: Mapping[str, Any]) -> list[str]:
    """Of one training's version."""
    return [
        "## Privacy",
        "",
        "The version promises this to each person trained on. This report is no part of it: its figures are "
        "of held-out people, beside baselines that are not private.",
        "",
        *ledger_table(ledger),
        "",
    ]


def plot_private(result: Mapping[str, Any], path: Path) -> None:
    """NDCG@10 by k, a line an ε; and by ε the mean over k ≥ 1 of all arms."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    shots = [str(k) for k in result["protocol"]["numbers"]]
    places = range(len(shots))
    for number, name in enumerate((NOT_PRIVATE, *map(arm_name, EPSILONS), POPULARITY)):
        left.plot(places, [result["ndcg10"][name][k] for k in shots], label=name, **style(number))
    left.set_xticks(places, shots)
    left.set_xlabel("k, events known of the person")
    left.set_ylabel("NDCG@10")
    left.legend()
    kinds = (("all", arm_name), ("rows alone", rows_alone), ("popularity, private", popularity_told))
    shown = [e for e in EPSILONS if not math.isinf(e)][::-1]
    for number, (label, name_of) in enumerate(kinds):
        means = [_mean(result["ndcg10"][name_of(e)], shots) for e in shown]
        right.plot(range(len(shown)), means, label=label, **style(number))
    levels = (("all, ε = ∞", arm_name(math.inf)), ("popularity, not private", POPULARITY))
    for number, (label, name) in enumerate(levels, start=len(kinds)):
        right.axhline(_mean(result["ndcg10"][name], shots), color=f"C{number}", linestyle=":", label=label)
    right.set_xticks(range(len(shown)), [format(e, "g") for e in shown])
    right.set_xlabel("ε")
    right.set_ylabel("NDCG@10, mean over k ≥ 1")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(f"{result['trained_on']:,} people trained on, {seeds(result['seeds'])}")
    figure.savefig(path, dpi=120)


def _mean(by_shots: Mapping[str, float], shots: Sequence[str]) -> float:
    counted = [by_shots[k] for k in shots if k != "0"]
    return sum(counted) / len(counted) if counted else by_shots[shots[0]]
