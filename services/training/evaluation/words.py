"""How reports say the same things everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict

from services.training.evaluation.metrics import Interval
from services.training.settings import MIX

# Between the names that one head or first cell of a table puts together.
_JOINED = re.compile(r" − | than |: |, (?=MAE$)")

# What a reader may not know, by the words as reports have them; in the order in which they are explained.
_GLOSSARY = (
    ("k", "support events: how many events of a person the model is told before it is asked"),
    (
        "NDCG@10",
        "how far in front the wanted items stand among the first ten: 1 = all in front, 0 = none among them "
        "(normalised discounted cumulative gain)",
    ),
    ("HR@10", "share of people with a wanted item among the first ten (hit rate)"),
    ("(validation)", "HR@10 / NDCG@10 of the event before the last, by which settings were chosen"),
    ("MAE", "mean absolute error: by how many stars what was foretold misses, in the mean"),
    (
        "RMSE",
        "root of the mean squared error, in stars too: a few wide misses weigh more than many narrow ones",
    ),
    ("new user", "people who are not trained on, asked for items that are"),
    ("new item", "people who are trained on, asked for items that are not"),
    ("both new", "neither is trained on"),
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
    ("sequence model", "the model pre-trained alone, on the very next event of people whom it knows"),
    (
        "sequence model with transitions",
        "the same and κ times what people chose next after the person's latest events (transitions)",
    ),
    ("item mean + level", "an item's mean and how far the person's own is from everybody's, both shrunk"),
    (
        "factorisation",
        "matrix factorisation of training people's stars, into which a person's ratings are folded",
    ),
    (
        "factorisation, MeLU's people",
        "the same of those people alone whom MeLU (Lee et al., 2019) trains on: neither few nor many ratings",
    ),
    (
        "re-encoding",
        "the pre-trained sequence model alone reads the support; no meta-training, no adaptation",
    ),
    ("re-encoding + 0.3 kNN", "standardised scores, with three tenths of item-kNN's added"),
    (
        "adaptation off",
        "the meta-trained model reads the support, and nothing else is made of it; where trends count, lists "
        "go by what is chosen now more than usual both with adaptation and without",
    ),
    (
        "adaptation on",
        "the meta-trained model with the person's fast weights and what follows their events (transitions)",
    ),
    ("champion", "the model that was champion when this one was trained, with adaptation"),
    ("off", "adaptation off: the meta-trained model reads the support, and nothing else is made of it"),
    ("on", "adaptation on"),
    ("served", "adaptation on, as servers adapt: the person's fast weights and what follows their events"),
    (
        "fine-tuned",
        "all weights of the model are trained on the person's support, a copy for each; never served",
    ),
    ("fast weights alone", "adaptation on without what follows the person's events"),
    (
        "on, without trends",
        "adaptation on without what is chosen now; the mix by probabilities that were calibrated with it",
    ),
    (
        "ridge",
        "the adapter that solves for the fast weights in closed form (after R2-D2, Bertinetto et al., 2019)",
    ),
    ("gradient", "the adapter that takes a few gradient steps on them (after ANIL, Raghu et al., 2020)"),
    (
        "gradient-first-order",
        "the same, meta-learned without second derivatives (first-order MAML, Nichol et al., 2018)",
    ),
    ("gradient-learned-rates", "the same with a learned rate a dimension (Meta-SGD, Li et al., 2017)"),
    (
        "amortised",
        "the adapter whose network reads each event and says what it adds (after conditional neural "
        "processes, Garnelo et al., 2018)",
    ),
    ("none", "no adapter: nothing is made of the support but what the model reads"),
    ("finetune", "plain fine-tuning of all weights, nothing meta-learned (after Howard and Ruder, 2018)"),
    ("reptile", "a start from which a few steps lead far (Reptile, Nichol, Achiam and Schulman, 2018)"),
    ("maml", "a start from which a few steps foretell what comes (MAML, Finn, Abbeel and Levine, 2017)"),
    ("not private", "the ordinary training of the preset, with adaptation"),
    (
        "ε",
        "a private training: with one person more or less, any version it may come to is at most e^ε times "
        "as likely, but for a chance of δ; ∞ = without noise",
    ),
    (
        "rows alone, ε",
        "the same without training by gradients: item rows from text and noisy sums, which spend all of ε",
    ),
    ("popularity, ε", "what people chose most, told with noise that spends all of ε"),
    ("mechanism", "what looked at people's events: a sum of vectors of bounded length, with noise"),
    ("sensitivity", "the most by which one person moves the sum (its L2 norm)"),
    ("noise multiplier", "standard deviation of the noise, in sensitivities"),
    ("sampling", "probability with which a person takes part in a step, each by themselves"),
    ("its own popularity", "what a private version itself says of how often items are chosen"),
    ("γ", "how much fast weights count, chosen for each task"),
    ("κ", "how much counts what people chose next after the person's latest events (transitions)"),
    ("the best", "the adapter on the first line"),
    ("seconds", "what training the adapter took, the mean over seeds; its body is not counted"),
    ("worse", "share of people whose NDCG@10, the mean over seeds, is lower with adaptation than without"),
    ("labels hidden", "adaptation off, told of every event as of a view"),
    ("blind to labels", "a model that was never told in training what people said of what they chose"),
    ("people a call", "how many people one call of the model adapts"),
    ("of it adapting", "how much longer the call takes than one of the model without an adapter"),
    ("times", "fine-tuned by of it adapting: how many times as long fine-tuning takes"),
    ("next", "the task of what is chosen among the next events"),
    ("like", "the task of what is chosen and liked among them"),
    ("rating", "the task of how many stars it gets"),
    ("values", "how many values were foretold, one of each person, item and number of shots asked"),
    ("foretold", "what they say in all; of stars in the mean"),
    ("happened", "what came of them, likewise"),
    ("squared error", "mean squared error of what was foretold; of probabilities the Brier score"),
    ("of the mean", "the squared error of one who always says the mean of what came"),
    ("calibration error", "mean distance of what was foretold from what came of all that was foretold so"),
    ("median percentile", "where a new item stands in people's lists: 0% = first, 50% = as by chance"),
    ("before", "mean rank before the event; 1 = first"),
    ("after", "mean rank after it"),
    ("change", "after − before"),
    (
        "as meant",
        "share of people for whom the ranks moved as the event means: up after a like, down after a dislike",
    ),
)
_INTERVAL = "a 95% interval: paired bootstrap over people"
# Words that the text of reports has too, not their tables alone.
_IN_TEXT = ("NDCG@10", "HR@10", "MAE", "RMSE", "γ", "κ")


def glossary(text: str) -> list[str]:
    """The words of a report that need it, explained: names in its tables, and what else it speaks of."""
    names = set(table_names(text)) | set(re.findall(r"`([^` ]+)`", text))
    found = [
        f"- **{word}**: {meaning}"
        for word, meaning in _GLOSSARY
        if word in names or (word in _IN_TEXT and word in text)
    ]
    found += [f"- **[…, …]**: {_INTERVAL}"] if re.search(r"\[[-+]", text) else []
    return ["## Words", "", *found, ""] if found else []


def table_names(text: str) -> list[str]:
    """What the heads and the first cells of a report's tables name, each once: what a head puts together
    (`on − off`) apart, and without what is said of one table alone (`k = 5`, `new user (686 people)`)."""
    names: list[str] = []
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if not line.startswith("|") or line.startswith("|---"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        head = place + 1 < len(lines) and lines[place + 1].startswith("|---")
        for cell in cells if head else cells[:1]:
            plain = re.sub(r" = (\d+|∞)$| \([^)]*\)$", "", cell.replace("`", "")).removeprefix("− ")
            names += [plain] if plain == "(validation)" else _JOINED.split(plain)
    return [name for name in dict.fromkeys(names) if name and not name.isdigit()]


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
