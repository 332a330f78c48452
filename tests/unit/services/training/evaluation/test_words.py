"""Reports explain what they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.training.evaluate import COMPARED
from services.training.evaluation import (
    few_shot,
    rating,
    rating_baselines,
)
from services.training.evaluation.adapters_report import alone
from services.training.evaluation.liked import HIDDEN
from services.training.evaluation.report import markdown
from services.training.evaluation.words import glossary, table_names
from shared.adapters import ADAPTERS, BODY_ADAPTERS

# One of each kind: few shots with likes and reliability, leave one out, stars, adapters.
REPORTS = [
    Path("reports/movielens-1m") / kind for kind in ("few-shot-blind", "leave-one-out", "rating", "adapters")
]
# Heads and first cells that are plain English, or a sentence of their own.
PLAIN = {
    "arm",
    "adapter",
    "task",
    "event",
    "for",
    "people",
    "people with a larger MAE",
    "people with a lower one",
    "mean over k ≥ 1",
    "dislike",
    "skip",
    "people whose later likes it resembles",
    "everybody else",
    "people who later liked this very item",
    "people who did not",
}
INTERVAL = {"mean": 0.1, "low": 0.0, "high": 0.2}
NEW_ITEMS = {
    "items": 8,
    "people": 9,
    "fitting": 0.1,
    "others": 0.5,
    "liked": 0.1,
    "not_liked": 0.5,
    "liked_pairs": 3,
}
MOVED = {"people": 9, "before": 50.0, "after": 20.0, "change": INTERVAL, "share_as_meant": 0.9}


def unexplained(text: str) -> set[str]:
    """What the tables of a report name and its Words do not explain."""
    explained = set(re.findall(r"^- \*\*(.+?)\*\*: ", text, re.MULTILINE))
    return set(table_names(text)) - explained - PLAIN


def named(*names: str) -> str:
    """A report with a table of these heads."""
    text = "| arm | " + " | ".join(names) + " |\n|---|" + "---|" * len(names) + "\n"
    return "\n".join([text, *glossary(text)])


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.name)
def test_a_committed_report_explains_all_that_its_tables_name(path: Path) -> None:
    assert unexplained(markdown(json.loads((path / "report.json").read_text()))) == set()


def test_adapting_beside_fine_tuning_is_explained_by_the_words_of_its_table() -> None:
    arms = {"adaptation off": 0.1, "adaptation on": 0.2, "fine-tuned": 0.1}
    pairs = ("on_minus_off", "fine_tuned_minus_off", "on_minus_fine_tuned")
    compared = dict.fromkeys(pairs, INTERVAL)
    result = {
        "people": 3,
        "task": "next",
        "seeds": 1,
        "adapter": "ridge",
        "fine_tuning": [{"chosen": {"steps": 4, "rate": 0.01}, "tried": [{}]}],
        "rows": [{"k": 1, "ndcg10": arms, **compared, "share_worse": dict.fromkeys(pairs, 0.1), "times": []}],
        **compared,
    }
    text = markdown({"domain": "d", "adaptation": result})
    assert unexplained(text) == set()
    assert "- **served**: adaptation on, as servers adapt" in text
    assert "- **ridge**: the adapter that solves" in text


def test_every_arm_there_is_has_its_word() -> None:
    """Whether a committed report has it or not."""
    names = ("POPULARITY", "KNN", "OFF", "ON", "RULES", "FAST_WEIGHTS", "LATE", "TIMELESS", "RE_ENCODING")
    arms = [getattr(few_shot, name) for name in (*names, "MIXED", "BLIND")]
    arms += [HIDDEN, rating_baselines.LEVEL, rating_baselines.FACTORS, rating_baselines.FEW_FACTORS]
    arms += [*rating.SCENARIOS, *ADAPTERS, *BODY_ADAPTERS]
    arms += [name for arm in COMPARED for name in (arm.name, alone(arm.name).removeprefix(f"{arm.name}, "))]
    assert unexplained(named(*arms)) == set()


def test_new_items_and_feedback_explain_their_columns() -> None:
    reactions = dict.fromkeys(("dislike", "like", "skip"), MOVED)
    assert unexplained(markdown({"domain": "d", "new_items": NEW_ITEMS, "feedback": reactions})) == set()


def test_a_training_explains_the_champion_and_adaptation_without_the_arms_it_does_not_have() -> None:
    row: dict[str, Any] = {"ndcg10": 0.1, "hr10": 0.2}
    arms = dict.fromkeys(("popularity", "item-kNN", "adaptation on", "champion"), row)
    table = {
        "people": 3,
        "protocol": {"first_events": 1, "query_events": 1, "at_end": False},
        "task": "mix",
        "seeds": 1,
        "rows": [{"k": 1, "arms": arms, "minus_item_knn": dict.fromkeys(arms, INTERVAL)}],
    }
    text = markdown({"domain": "d", "few_shot": table})
    assert unexplained(text) == set()
    assert "- **adaptation on**: the meta-trained model" in text
    assert "adaptation off" not in text


def test_names_that_a_head_puts_together_are_told_apart() -> None:
    head = "| k = 5 | on − off | new user (686 people) | − the best |"
    text = f"{head}\n|---|---|---|---|\n| `ridge` | 1 |\n| 20 |"
    assert table_names(text) == ["k", "on", "off", "new user", "the best", "ridge"]


def test_words_that_a_report_does_not_have_are_not_explained() -> None:
    assert glossary("Nobody has enough events.") == []
    assert "**off**" not in "".join(glossary("| k | adaptation off |\n|---|---|\n"))
