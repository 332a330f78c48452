"""What a report says of few shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from services.training.evaluation.few_shot import FAST_WEIGHTS, KNN, OFF, ON, FewShot
from services.training.evaluation.words import interval, ranked_by, seeds


def few_shot_dict(table: FewShot, task: str) -> dict[str, Any]:
    """The table as plain values."""
    found: dict[str, Any] = {
        "people": len(table.questions),
        "protocol": table.questions.protocol.as_asked(),
        "task": task,
        "seeds": table.seeds,
        "item_knn": {str(k): asdict(knn) for k, knn in table.tuned.items()},
        "rows": [_row(table, k) for k in table.shots],
    }
    if ON in table.arms and OFF in table.arms:
        found["on_minus_off"] = asdict(table.difference(ON, OFF))
    if FAST_WEIGHTS in table.arms and OFF in table.arms:
        found["fast_weights_minus_off"] = asdict(table.difference(FAST_WEIGHTS, OFF))
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


def few_shot_markdown(table: Mapping[str, Any], title: str = "Few shots") -> list[str]:
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
        f"what they had before masked; ranked by {ranked_by(table['task'])}; {seeds(table['seeds'])}. "
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
    if "fast_weights_minus_off" in table:
        lines[-1] += f"; by fast weights alone: {interval(table['fast_weights_minus_off'])}"
    return [*lines, ""]


def _asked(protocol: Mapping[str, Any]) -> str:
    if protocol["at_end"]:
        return f"query = their last {protocol['query_events']} events, support = the last k before"
    first, query = protocol["first_events"], protocol["query_events"]
    return f"support = the last k of their first {first}, query = the next {query}"


def _cell(arm: Mapping[str, float] | None) -> str:
    return f"{arm['ndcg10']:.4f} / {arm['hr10']:.3f}" if arm else ""
