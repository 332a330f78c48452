"""Which adapter that can be served wins on validation people: the figures, and what a report says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from services.training.evaluation.few_shot import FAST_WEIGHTS, OFF, FewShot
from services.training.evaluation.words import interval, ranked_by, seeds


def alone(adapter: str) -> str:
    """The arm of an adapter's fast weights without what follows a person's events."""
    return f"{adapter}, {FAST_WEIGHTS}"


def adapters_dict(table: FewShot, adapters: Mapping[str, Mapping[str, float]], task: str) -> dict[str, Any]:
    """As plain values, the best first.

    table: with the arms OFF, each adapter's and `alone` of it; adapters: what each cost, see
    `evaluate.cost`.
    """
    found = [_adapter(table, name, cost) for name, cost in adapters.items()]
    return {
        "people": len(table.questions),
        "protocol": asdict(table.questions.protocol),
        "task": task,
        "seeds": table.seeds,
        "off": _by_shots(table, OFF),
        "adapters": sorted(found, key=lambda adapter: -adapter["mean_ndcg10"]),
    }


def _adapter(table: FewShot, name: str, cost: Mapping[str, float]) -> dict[str, Any]:
    worse = table.per_person(name) < table.per_person(OFF)
    return {
        "name": name,
        "ndcg10": _by_shots(table, name),
        "mean_ndcg10": table.mean_ndcg(name),
        "minus_off": asdict(table.difference(name, OFF)),
        "fast_weights_minus_off": asdict(table.difference(alone(name), OFF)),
        "share_worse_than_off": float(np.mean(worse)) if len(worse) else None,
        "seconds": cost.get("adapt_seconds"),
    }


def _by_shots(table: FewShot, arm: str) -> dict[str, float]:
    return {str(k): table.ndcg(arm, k) for k in table.shots}


def adapters_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = ["## Adapters", ""]
    if not result["people"]:
        return [*lines, "No validation person has enough events.", ""]
    shots = [k for k in result["off"] if k != "0"]
    heads = ["adapter", *(f"k = {k}" for k in shots), "− off", "fast weights alone − off", "worse", "seconds"]
    lines += [
        f"{result['people']} validation people, by whom a default is chosen (held-out people are not "
        f"asked), on the same bodies; ranked by {ranked_by(result['task'])}; {seeds(result['seeds'])}. The "
        "adapters' own numbers, γ and κ follow these people too, of all adapters alike. NDCG@10, and paired "
        "95% intervals of its mean over k ≥ 1:",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---|" * (len(heads) - 1),
        "| adaptation off | " + " | ".join(f"{result['off'][k]:.4f}" for k in shots) + " |  |  |  |  |",
    ]
    for adapter in result["adapters"]:
        cells = [f"{adapter['ndcg10'][k]:.4f}" for k in shots]
        cells += [interval(adapter[name]) for name in ("minus_off", "fast_weights_minus_off")]
        cells.append(f"{adapter['share_worse_than_off']:.0%}")
        cells.append(f"{adapter['seconds']:.0f}" if adapter["seconds"] is not None else "")
        lines.append(f"| {adapter['name']} | " + " | ".join(cells) + " |")
    best = result["adapters"][0]["name"]
    return [*lines, "", f"Best in the mean over k ≥ 1: `{best}`.", ""]
