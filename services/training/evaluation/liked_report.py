"""What a report says of the next liked items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from services.training.evaluation.few_shot import BLIND, OFF, ON, FewShot
from services.training.evaluation.liked import HIDDEN
from services.training.evaluation.words import interval, seeds

_PAIRS = ((ON, OFF), (ON, HIDDEN), (OFF, HIDDEN), (ON, BLIND), (OFF, BLIND))


def liked_dict(table: FewShot) -> dict[str, Any]:
    """The table as plain values."""
    return {
        "people": len(table.questions),
        "seeds": table.seeds,
        "rows": [
            {
                "k": k,
                "ndcg10": {name: table.ndcg(name, k) for name in table.arms},
                "differences": {
                    f"{a} − {b}": asdict(table.difference(a, b, k)) for a, b in _PAIRS if b in table.arms
                },
                "share_worse_on_than_off": table.share_worse(ON, OFF, k),
            }
            for k in table.shots
        ],
    }


def liked_markdown(result: Mapping[str, Any]) -> list[str]:
    lines = ["## Next liked items, after likes and dislikes", ""]
    if not result["people"]:
        return [*lines, "Nobody's support holds a like and a dislike.", ""]
    blind = BLIND in result["rows"][0]["ndcg10"]
    names = [*result["rows"][0]["ndcg10"], *result["rows"][0]["differences"], "worse"]
    lines += [
        f"{result['people']} of these people, whose support holds a like and a dislike; asked for what they "
        f"like of the query, ranked by task `like`; {seeds(result['seeds'])}. Labels hidden: adaptation "
        "off, and every event said as a view"
        + ("; blind to labels: trained and asked so, on the same targets." if blind else "."),
        "NDCG@10, paired 95% intervals:",
        "",
        "| k | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for row in result["rows"]:
        cells = [f"{value:.4f}" for value in row["ndcg10"].values()]
        cells += [interval(value) for value in row["differences"].values()]
        cells.append(f"{row['share_worse_on_than_off']:.0%}")
        lines.append(f"| {row['k']} | " + " | ".join(cells) + " |")
    return [*lines, ""]
