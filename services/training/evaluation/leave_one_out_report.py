"""What a report says of leaving one out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from services.training.evaluation.few_shot import KNN
from services.training.evaluation.leave_one_out import LeaveOneOut
from services.training.evaluation.words import interval, seeds


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


def leave_one_out_markdown(result: Mapping[str, Any]) -> list[str]:
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
