"""How reports say the same things everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from services.training.evaluation.metrics import Interval
from services.training.settings import MIX

# What a reader may not know, by the words as reports have them (`_AS_COLUMNS`: as the heads of columns).
_GLOSSARY = (
    ("k", "support events: how many events of a person the model is told before it is asked"),
    (
        "NDCG@10",
        "how far in front the wanted items stand among the first ten: 1 = all in front, 0 = none among them "
        "(normalised discounted cumulative gain)",
    ),
    ("HR@10", "share of people with a wanted item among the first ten (hit rate)"),
    ("popularity", "what training people chose most, for everybody alike"),
    (
        "popular of late",
        "what training people chose most just before the person is asked, recent events counting more",
    ),
    (
        "item-kNN",
        "items that people chose together with those of the support, settings tuned on validation people",
    ),
    ("ALS", "matrix factorisation of who chose what, settings tuned on validation"),
    ("PureSVD", "a person's events projected on the strongest patterns of who chose what, likewise tuned"),
    ("sequential rules", "items that training people chose soon after those of the support"),
    (
        "re-encoding",
        "the pre-trained sequence model alone reads the support; no meta-training, no adaptation",
    ),
    ("+ 0.3 kNN", "standardised scores, with three tenths of item-kNN's added"),
    (
        "adaptation off",
        "the meta-trained model reads the support, and nothing else is made of it; where trends count, lists "
        "go by what is chosen now more than usual both with adaptation and without",
    ),
    ("adaptation on", "the same model with the person's fast weights and what follows their events"),
    ("fast weights alone", "the same without what follows their events"),
    (
        "on, without trends",
        "adaptation on without what is chosen now; the mix by probabilities that were calibrated with it",
    ),
    ("worse", "share of people whose NDCG@10, the mean over seeds, is lower with adaptation than without"),
    ("labels hidden", "the model as it is, told of every event as of a view"),
    ("blind to labels", "a model that was never told in training what people said of what they chose"),
    ("Brier", "mean squared error of probabilities"),
    ("[", "a 95% interval: paired bootstrap over people"),
)

_AS_COLUMNS = ("k", "worse")


def glossary(text: str) -> list[str]:
    """The words of a report that need it, explained."""
    found = [
        f"- **{word}**: {meaning}"
        for word, meaning in _GLOSSARY[:-1]
        if (f"| {word} |" if word in _AS_COLUMNS else word) in text
    ]
    found += [f"- **[…, …]**: {_GLOSSARY[-1][1]}"] if "[" in text else []
    return ["## Words", "", *found, ""] if found else []


def seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def interval(value: Interval | Mapping[str, float], digits: int = 4) -> str:
    """A difference and its 95% interval."""
    i = asdict(value) if isinstance(value, Interval) else value
    if i["low"] is None or math.isnan(i["low"]):
        return "" if i["mean"] is None or math.isnan(i["mean"]) else f"{i['mean']:+.{digits}f} (one person)"
    return f"{i['mean']:+.{digits}f} [{i['low']:+.{digits}f}, {i['high']:+.{digits}f}]"


def ranked_by(task: str) -> str:
    return "the mix of tasks that is served" if task == MIX else f"task `{task}`"
