"""What a report says of adapting as served beside fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.training.evaluation.few_shot import OFF, ON
from services.training.evaluation.plots import plot_by_shots
from services.training.evaluation.words import interval, ranked_by, seeds

PLOT = "adaptation.png"
# What the table and the plot call the arms, which are compared by these words.
_SHORT = {OFF: "off", ON: "served"}


def adaptation_markdown(result: Mapping[str, Any]) -> list[str]:
    if not result["people"]:
        return ["## Adapting as served, and fine-tuning", "", "No held-out person has enough events.", ""]
    settings = [seed["chosen"] for seed in result["fine_tuning"]]
    chosen = ", ".join(dict.fromkeys(f"{s['steps']} × {s['rate']:g}" for s in settings))
    tried = len(result["fine_tuning"][0]["tried"])
    lines = [
        "## Adapting as served, and fine-tuning",
        "",
        f"{result['people']} people never trained on, the same bodies and support events; ranked by "
        f"{ranked_by(result['task'])}, without trends; {seeds(result['seeds'])}. Served: adapter "
        f"`{result['adapter']}` of the artifact. Fine-tuned: the whole body, gradient steps × rate {chosen}, "
        f"the best of {tried} on validation people. NDCG@10, paired 95% intervals, and the share of people "
        "whose NDCG@10 is lower with the first than with the second:",
        "",
        "| k | off | served | fine-tuned | served − off | fine-tuned − off | served − fine-tuned |",
        "|---|---|---|---|---|---|---|",
    ]
    pairs = ("on_minus_off", "fine_tuned_minus_off", "on_minus_fine_tuned")
    for row in result["rows"]:
        cells = [f"{value:.4f}" for value in row["ndcg10"].values()]
        cells += [f"{interval(row[pair])}, {row['share_worse'][pair]:.0%}" for pair in pairs]
        lines.append(f"| {row['k']} | " + " | ".join(cells) + " |")
    cells = ["", "", "", *(interval(result[pair]) for pair in pairs)]
    lines.append("| mean over k ≥ 1 | " + " | ".join(cells) + " |")
    return [*lines, "", *_times_markdown(result["rows"])]


def plot_adaptation(result: Mapping[str, Any], path: Path) -> None:
    """NDCG@10 over the number of shots, one line an arm."""
    rows = result["rows"]
    arms = {
        _SHORT.get(name, name): {row["k"]: row["ndcg10"][name] for row in rows} for name in rows[-1]["ndcg10"]
    }
    plot_by_shots(arms, f"{result['people']} people never trained on, {seeds(result['seeds'])}", path)


def _times_markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "One thread, median milliseconds a person: by one person a call, and by as many as a busy server "
        "puts together. Served: the whole `encode_adapt`, and what it takes more than one without an "
        "adapter; the last column is how many times as long fine-tuning takes as adapting:",
        "",
        "| k | people a call | people | served | of it adapting | fine-tuned | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for t in row["times"]:
            figures = " | ".join(f"{t[name]:.3f}" for name in ("encode_adapt_ms", "adapt_ms", "finetune_ms"))
            times = f"{t['finetune_ms'] / t['adapt_ms']:.0f}" if t["adapt_ms"] > 0.0 else ""
            lines.append(f"| {row['k']} | {t['together']} | {t['people']} | {figures} | {times} |")
    return [*lines, ""]
