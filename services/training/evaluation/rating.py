"""Stars foretold for people and items never trained on: the protocol of MeLU (Lee et al., 2019, KDD).

People are old or new: those held out are new. Items are old or new by their year of release. In each of three
scenarios (new people with old items, old people with new items, both new) a person takes part who has 13 to
100 ratings of that kind: ten of them, drawn at random, are asked for, and the others are the support. Only
old people's ratings of old items are trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.training.data import BoolArray, Int64Array, TrainingData
from services.training.evaluation.metrics import Float64Array, Interval, paired_bootstrap, share_below
from services.training.evaluation.protocol import Past, context_of
from services.training.evaluation.served import Saved, ServedArtifact
from services.training.windows import rated
from shared.domain import FloatArray, IntArray
from shared.errors import InvalidInput
from shared.holdout import Role
from shared.modeling.config import RATING_TASK, STARS

NEW_USER, NEW_ITEM, BOTH_NEW = "new user", "new item", "both new"
SCENARIOS = (NEW_USER, NEW_ITEM, BOTH_NEW)
NEW_SINCE = 1998  # MeLU's division of MovieLens-1M: about a fifth of the items
FEWEST, MOST, QUERY = 13, 100, 10
_YEAR = re.compile(r"\((\d{4})\)\s*$")


@dataclass(frozen=True, slots=True, eq=False)
class StarQuestions:
    """B people of one scenario; places are those of the data's events.

    users [B]; support: B arrays, in order of time; query [B, QUERY].
    """

    users: IntArray
    support: Sequence[Int64Array]
    query: Int64Array

    def __len__(self) -> int:
        return len(self.users)

    def stars(self, data: TrainingData) -> FloatArray:
        """What was given to the items asked for. [B, QUERY]."""
        return data.values[self.query]


# What is foretold for the items asked for. [B, QUERY] float, not yet brought into the scale.
Foretell = Callable[[StarQuestions], FloatArray]
# The same by scenario.
Answers = Mapping[str, FloatArray]


def new_items(data: TrainingData) -> IntArray:
    """Numbers of the items released in or after `NEW_SINCE`. Raises InvalidInput where no title has one."""
    years = [int(found[1]) if (found := _YEAR.search(title)) else 0 for title in data.titles]
    if not any(years):
        raise InvalidInput.of(
            "--protocol",
            "rating must be of items whose titles end in (year), as MovieLens' do",
            "no such title",
        )
    return np.flatnonzero(np.array(years) >= NEW_SINCE).astype(np.int32)


def scenarios(data: TrainingData, new: IntArray, *, seed: int) -> dict[str, StarQuestions]:
    """The questions of each scenario. new: numbers of the new items; seed: of the draw of the query."""
    stranger = data.roles[data.owners] == Role.HELD_OUT
    fresh = np.isin(data.items, new)
    kinds = {NEW_USER: stranger & ~fresh, NEW_ITEM: ~stranger & fresh, BOTH_NEW: stranger & fresh}
    return {name: _ask(data, kind, [seed, place]) for place, (name, kind) in enumerate(kinds.items())}


def validation_questions(data: TrainingData, new: IntArray, *, seed: int) -> StarQuestions:
    """What strangers are asked of old items, asked of validation people: every choice is made on them."""
    judges = data.roles[data.owners] == Role.VALIDATION
    return _ask(data, judges & ~np.isin(data.items, new), [seed, len(SCENARIOS)])


def _ask(data: TrainingData, kind: BoolArray, seed: Sequence[int]) -> StarQuestions:
    """kind: [E], which events are of the scenario, if they are ratings."""
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(kind & rated(data.actions))
    users, counts = np.unique(data.owners[places], return_counts=True)
    support, query = [], []
    ends = np.cumsum(counts)
    able = (counts >= FEWEST) & (counts <= MOST)
    for end, count in zip(ends[able], counts[able], strict=True):
        drawn = rng.permutation(places[end - count : end])
        support.append(np.sort(drawn[:-QUERY]))
        query.append(drawn[-QUERY:])
    return StarQuestions(users[able].astype(np.int32), support, np.array(query, np.int64).reshape(-1, QUERY))


def by_served(data: TrainingData, served: ServedArtifact, *, adapt: bool = True) -> Foretell:
    """A model as it is served: the support is the person's whole history."""

    def foretell(questions: StarQuestions) -> FloatArray:
        none = np.zeros(data.content.shape[1], np.float32)
        contexts, rows = [], []
        table = served.rows(data.item_ids)
        for user, support, query in zip(questions.users, questions.support, questions.query, strict=True):
            past = Past(
                data.items[support], data.actions[support], data.values[support], data.time_ms[support]
            )
            moment = int(max(data.time_ms[support[-1]], data.time_ms[query].max()))
            contexts.append(context_of(data, int(user), past, none, moment))
            rows.append(table[data.items[query]])
        number = served.task_number(RATING_TASK)
        found = [values[:, number] for values in served.values(contexts, rows, adapt=adapt)]
        return np.array(found, np.float32).reshape(-1, QUERY)

    return foretell


def answers_of(foretell: Foretell, asked: Mapping[str, StarQuestions]) -> Answers:
    """In every scenario."""
    return {scenario: foretell(questions) for scenario, questions in asked.items()}


def answers_of_model(data: TrainingData, asked: Mapping[str, StarQuestions], saved: Saved) -> Answers:
    """The same of a model as it is served, with new items made from their content."""
    served = saved.load()
    served.add_items(data.item_ids, data.content)
    return answers_of(by_served(data, served), asked)


@dataclass(frozen=True, slots=True, eq=False)
class StarScores:
    """One arm in one scenario: each person's mean absolute and squared errors, and the absolute ones of whole
    stars; the mean over seeds. [people] float64."""

    absolute: Float64Array
    squared: Float64Array
    rounded: Float64Array

    @property
    def mae(self) -> float:
        return _mean(self.absolute)

    @property
    def rmse(self) -> float:
        return float(np.sqrt(_mean(self.squared)))

    @property
    def mae_of_whole_stars(self) -> float:
        return _mean(self.rounded)


def score(data: TrainingData, questions: StarQuestions, seeds: Sequence[FloatArray]) -> StarScores:
    """Foretold stars are brought into the scale first. seeds: of each what it foretells, [B, QUERY]."""
    given = questions.stars(data).astype(np.float64)
    absolute, squared, rounded = [], [], []
    for foretold in seeds:
        said = np.clip(foretold.astype(np.float64), *STARS)
        absolute.append(np.abs(said - given).mean(axis=1))
        squared.append(((said - given) ** 2).mean(axis=1))
        rounded.append(np.abs(np.rint(said) - given).mean(axis=1))
    return StarScores(*(np.mean(errors, axis=0) for errors in (absolute, squared, rounded)))


@dataclass(frozen=True, slots=True, eq=False)
class StarTable:
    """arms[name][scenario]; supports[scenario]: number of ratings given by each person [people]."""

    arms: Mapping[str, Mapping[str, StarScores]]
    supports: Mapping[str, IntArray]
    seeds: int

    def difference(self, arm: str, other: str, scenario: str) -> Interval:
        """Paired 95% interval over people of MAE(arm) − MAE(other)."""
        return paired_bootstrap(self.arms[arm][scenario].absolute - self.arms[other][scenario].absolute)

    def share_worse(self, arm: str, other: str, scenario: str) -> float:
        """Share of people whose MAE is larger with `arm` than with `other`."""
        return share_below(self.arms[other][scenario].absolute, self.arms[arm][scenario].absolute)


def star_table(
    data: TrainingData, asked: Mapping[str, StarQuestions], arms: Mapping[str, Sequence[Answers]]
) -> StarTable:
    """Every arm in every scenario. arms: name → the answers of each seed."""
    scored = {
        name: {
            scenario: score(data, questions, [answers[scenario] for answers in seeds])
            for scenario, questions in asked.items()
        }
        for name, seeds in arms.items()
    }
    supports = {s: np.array([len(own) for own in q.support], np.int32) for s, q in asked.items()}
    return StarTable(scored, supports, max((len(seeds) for seeds in arms.values()), default=0))


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
